-- change_restock(of_order, units, restock): changes what happened to the units of a refunded order: puts
-- them back on the shelf, or takes them from the shelf again because they are lost after all. If units
-- have been sold or reserved meanwhile, it cannot take them, and raises an alert.
-- The caller has locked the order. Locks: products, then variants (lock_stock); alerts.
create or replace function change_restock(of_order bigint, units stock_line[], restock boolean)
returns void
language plpgsql
set search_path from current
as $$
declare
    offers stock_offer[];
    short  bigint;
begin
    if restock then
        perform return_units(of_order, units);
        return;
    end if;
    perform lock_stock(units);
    offers := offer_stock(units);
    perform move_stock(array(select (product_id, variant_id, granted, 0)::stock_move
                               from unnest(offers)));
    update order_lines l set filled_quantity = l.filled_quantity + o.granted
      from unnest(offers) o
     where l.order_id = of_order and l.product_id = o.product_id
       and l.variant_id is not distinct from o.variant_id;
    select sum(requested - granted) into short from unnest(offers);
    if short > 0 then
        perform raise_alert(null, null, 'payment', format(
            'Order %s is refunded and its goods are lost. Units that went back on sale meanwhile and are'
            ' sold or held: %s', of_order, short), 'goods of order ' || of_order);
    end if;
end
$$;
