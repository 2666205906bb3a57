-- Locks the rows of an import: no other writer can change them until the import commits.
-- Locks: products in the order of ids, then variants in the order of ids.

select count(*) from (
    select from products p
     where id in (select id from pg_temp.staged_products union all
                  select product_id from pg_temp.staged_variants)
     order by id for no key update of p) locked;

select count(*) from (
    select from variants v
     where id in (select id from pg_temp.staged_variants)
     order by id for no key update of v) locked;
