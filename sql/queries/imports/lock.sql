-- No other writer on an import's rows until it commits.
-- Locks: products in the order of ids, variants in the order of ids.

select count(*) from (
    select from products p
     where id in (select id from pg_temp.staged_products union all
                  select product_id from pg_temp.staged_variants)
     order by id for no key update of p) locked;

select count(*) from (
    select from variants v
     where id in (select id from pg_temp.staged_variants)
     order by id for no key update of v) locked;
