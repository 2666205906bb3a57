-- check_refund(of_order, units): checks that an order has these units, and that they are not refunded.
-- The caller has locked the order. Locks: nothing more.
-- Raises: SS001 otherwise.
create or replace function check_refund(of_order bigint, units stock_line[]) returns void
language plpgsql
set search_path from current
as $$
declare
    wrong record;
begin
    select u.product_id, u.variant_id, coalesce(l.quantity - l.refunded_quantity, 0) as rest
      into wrong
      from unnest(units) u
      left join order_lines l on l.order_id = of_order and l.product_id = u.product_id
                             and l.variant_id is not distinct from u.variant_id
     where coalesce(l.quantity - l.refunded_quantity, 0) < u.quantity
     order by u.product_id, u.variant_id
     limit 1;
    if found then
        perform refuse_field('lines', format(
            'at most the units of the order that are not refunded: %s of %s', wrong.rest,
            concat_ws(', ', wrong.product_id, wrong.variant_id)));
    end if;
end
$$;
