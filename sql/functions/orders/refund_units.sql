-- refund_units(of_order, units, restock): records that the money of these units was returned. With
-- `restock` it puts them back on the shelf; without, they are lost and stay sold. Units that the order
-- still waits for are refunded first: the order no longer waits for them. If `units` are more than the
-- order has left to refund, the rest is ignored.
-- The caller has locked the order. Locks: its alerts; products, then variants (lock_stock).
create or replace function refund_units(of_order bigint, units stock_line[], restock boolean)
returns void
language plpgsql
set search_path from current
as $$
declare
    placed   orders;
    line     record;
    returned stock_line[] := '{}';
begin
    select * into placed from orders where id = of_order;
    for line in
        select l.id, l.product_id, l.variant_id,
               least(u.quantity, l.quantity - l.refunded_quantity) as refunded,
               greatest(0, l.quantity - l.filled_quantity - l.refunded_quantity) as missing
          from order_lines l
          join unnest(units) u on u.product_id = l.product_id
                              and u.variant_id is not distinct from l.variant_id
         where l.order_id = of_order and l.refunded_quantity < l.quantity
         order by l.product_id, l.variant_id
    loop
        update order_lines set refunded_quantity = refunded_quantity + line.refunded
         where id = line.id;
        if line.refunded > line.missing then
            returned := returned || (line.product_id, line.variant_id,
                                     line.refunded - line.missing)::stock_line;
        end if;
        if placed.status = 'shortfall' and line.refunded >= line.missing then
            perform close_alert(line.product_id, line.variant_id, 'shortfall',
                                'order ' || of_order);
        end if;
    end loop;
    if restock and placed.status <> 'cancelled' and returned <> '{}' then
        perform return_units(of_order, returned);
    end if;
    if placed.status = 'shortfall' and not exists (
        select from order_lines
         where order_id = of_order and filled_quantity + refunded_quantity < quantity) then
        update orders set status = 'paid' where id = of_order;
    end if;
    update orders set updated_at = clock_timestamp() where id = of_order;
end
$$;
