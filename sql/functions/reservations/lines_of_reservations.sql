-- lines_of_reservations(ids): the units that these reservations hold, summed per product and variant, in
-- the order of ids. The sum ends at the largest integer, which only unlimited stock can exceed.
-- Locks: none.
create or replace function lines_of_reservations(ids bigint[]) returns stock_line[]
language sql stable
set search_path from current
as $$
    select coalesce(array_agg((s.product_id, s.variant_id, s.quantity)::stock_line
                              order by s.product_id, s.variant_id), '{}')
      from (select product_id, variant_id, least(sum(quantity), 2147483647)::integer as quantity
              from reservation_lines where reservation_id = any (ids)
             group by 1, 2) s
$$;
