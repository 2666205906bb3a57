-- One import at a time, and no other writer on its rows until it commits.
-- Locks: the advisory lock "imports", products in the order of ids, variants in the order of ids.
select pg_advisory_xact_lock(x'00696d706f727473'::bigint);

select count(*) from (
    select from products p
     where id in (select id from staged_products union all
                  select product_id from staged_variants)
     order by id for no key update of p) locked;

select count(*) from (
    select from variants v
     where id in (select id from staged_variants)
     order by id for no key update of v) locked;
