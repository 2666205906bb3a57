-- close_order(of_order, new_status, restock): the common part of cancel_order and of refunds. Ends an
-- order. With `restock` it gives back the units that the order was filled with, except units that were
-- refunded earlier without going back on the shelf. An order that already has the status stays as it is.
-- A cancelled order can be refunded, which gives nothing back a second time. Closes the alerts of an order
-- that was short of stock.
-- Locks: the order; its alerts; then products, then variants (lock_stock).
-- Raises: SS009 for an unknown order, SS011 if a refunded order is cancelled.
create or replace function close_order(of_order bigint, new_status text, restock boolean)
returns jsonb
language plpgsql
set search_path from current
as $$
declare
    placed orders;
    kept   stock_line[];
begin
    select * into placed from orders where id = of_order for update;
    if not found then
        raise exception 'there is no order %', of_order
            using errcode = 'SS009', detail = jsonb_build_object('orderId', of_order);
    elsif placed.status = new_status then
        return order_data(of_order);
    elsif placed.status = 'refunded' then
        raise exception 'the order is refunded'
            using errcode = 'SS011', detail = order_data(of_order);
    end if;
    perform set_config('stream_server.reference', 'order ' || of_order, true);
    if placed.status = 'shortfall' then
        perform close_alert(l.product_id, l.variant_id, 'shortfall', 'order ' || of_order)
           from order_lines l where l.order_id = of_order;
    end if;
    if restock and placed.status <> 'cancelled' then
        kept := array(select (product_id, variant_id,
                              least(filled_quantity, quantity - refunded_quantity))::stock_line
                        from order_lines
                       where order_id = of_order and filled_quantity > 0
                         and refunded_quantity < quantity
                       order by product_id, variant_id);
        perform return_units(of_order, kept);
    end if;
    if new_status = 'refunded' then
        update order_lines set refunded_quantity = quantity
         where order_id = of_order and refunded_quantity < quantity;
    end if;
    update orders set status = new_status, updated_at = clock_timestamp() where id = of_order;
    return order_data(of_order);
end
$$;
