-- return_units(of_order, units): puts units that an order was filled with back on the shelf.
-- The caller has locked the order. Locks: products, then variants (lock_stock).
create or replace function return_units(of_order bigint, units stock_line[]) returns void
language plpgsql
set search_path from current
as $$
begin
    perform lock_stock(units);
    perform move_stock(array(select (product_id, variant_id, -quantity, 0)::stock_move
                               from unnest(units)));
    update order_lines l set filled_quantity = l.filled_quantity - u.quantity
      from unnest(units) u
     where l.order_id = of_order and l.product_id = u.product_id
       and l.variant_id is not distinct from u.variant_id;
end
$$;
