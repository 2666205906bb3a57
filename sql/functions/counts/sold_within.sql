-- sold_within(of_product, of_variant, until, within): the number of units sold in the time `within` before
-- `until`, minus units that were returned; 0 if `within` is NULL.
-- Locks: none.
create or replace function sold_within(
    of_product text, of_variant text, until timestamptz, within interval
) returns bigint
language sql stable
set search_path from current
as $$
    select greatest(0, coalesce(sum(l.sold_after - l.sold_before), 0))
      from inventory_log l
     where within is not null and l.product_id = of_product
       and l.variant_id is not distinct from of_variant
       and l.created_at <= until
       and l.version > coalesce((select b.version from inventory_log b
                                  where b.product_id = of_product and b.created_at <= until - within
                                  order by b.version desc
                                  limit 1), 0)
$$;
