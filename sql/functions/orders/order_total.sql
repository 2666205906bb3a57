-- order_total(of_order): the price of an order's units, in the currency's smallest unit.
-- Locks: none.
create or replace function order_total(of_order bigint) returns numeric
language sql stable
set search_path from current
as $$
    select coalesce(sum(quantity::numeric * unit_price), 0) from order_lines
     where order_id = of_order
$$;
