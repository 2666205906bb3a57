-- refund_order(of_order, restock, actor, lines, amount, reference): records that money of an order was
-- returned, and puts units back on the shelf; without `restock` they stay sold (they came back broken, or
-- not at all). Returns the order as JSON.
--
--     select refund_order(81);                                       -- everything not yet refunded
--     select refund_order(81, lines => '[{"productId": "Poster", "quantity": 1}]');
--     select refund_order(81, amount => 500, reference => 're_3OqX…');
--
-- `lines` are units of the order, in the form of a cart. Their refund is their share of the sum that was
-- paid, unless `amount` (in the currency's smallest unit) gives another sum. An amount without lines
-- refunds money only. Once all units or all money went back, the order is refunded. `reference` names the
-- provider's refund: a known refund is not counted again, but gets the lines if it had none.
-- Locks: the order; then products, then variants (lock_stock); alerts.
-- Raises: SS009 for an unknown order, SS001 for units or an amount that exceed the rest of the order,
-- SS010 if the reference belongs to another order, SS011 if a part of a refunded order is refunded.
create or replace function refund_order(
    of_order  bigint,
    restock   boolean default true,
    actor     text default null,
    lines     jsonb default null,
    amount    bigint default null,
    reference text default null
) returns jsonb
language plpgsql
security definer
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    before text[] := begin_change('refund', refund_order.actor);
    placed orders;
    known  reversals;
    units  stock_line[];
    total  numeric := order_total(of_order);
    rest   numeric;
    wanted numeric := refund_order.amount;
begin
    select * into placed from orders o where o.id = of_order for update;
    if not found then
        raise exception 'there is no order %', of_order
            using errcode = 'SS009', detail = jsonb_build_object('orderId', of_order);
    elsif length(reference) not between 1 and 200 or reference ~ '[[:cntrl:]]' then
        perform refuse_field('refundReference',
                             'a string of 1 to 200 characters without control characters');
    end if;
    select * into known from reversals r where r.id = reference;
    if found and (known.order_id = of_order and known.kind = 'refund') is not true then
        raise exception 'the refund belongs to another order'
            using errcode = 'SS010', detail = jsonb_build_object('orderId', known.order_id);
    elsif found and (refund_order.lines is null or known.lines is not null
                     or placed.status = 'refunded') then
        perform end_change(before);
        return order_data(of_order);
    end if;
    rest := greatest(0, coalesce(placed.amount, total) - placed.refunded_amount);
    if placed.status = 'refunded'
       and (refund_order.lines is not null or refund_order.amount is not null and rest = 0) then
        raise exception 'the order is refunded'
            using errcode = 'SS011', detail = order_data(of_order);
    end if;
    if refund_order.lines is not null then
        units := cart_lines(refund_order.lines);
        perform check_refund(of_order, units);
        wanted := coalesce(wanted, least(rest, (
            select round(sum(u.quantity::numeric * l.unit_price)
                         * least(1, coalesce(placed.amount / nullif(total, 0), 1)))
              from unnest(units) u
              join order_lines l on l.order_id = of_order and l.product_id = u.product_id
                                and l.variant_id is not distinct from u.variant_id)));
    end if;
    if known.id is null and (wanted > rest or refund_order.amount < 1) then
        perform refuse_field('amount', 'a whole number from 1 to ' || rest);
    end if;
    if known.id is not null then
        update reversals r set lines = refund_order.lines, restock = refund_order.restock
         where r.id = known.id;
    elsif units is not null or rest > 0 then
        insert into reversals (id, kind, payment_reference, order_id, amount, currency, status,
                               restock, lines, occurred_at)
        values (coalesce(reference, gen_random_uuid()::text), 'refund', placed.payment_reference,
                of_order, coalesce(wanted, rest), placed.currency, 'succeeded', refund_order.restock,
                refund_order.lines, clock_timestamp());
    end if;
    perform settle_reversals(null, of_order);
    if refund_order.lines is null and refund_order.amount is null then
        perform close_order(of_order, 'refunded', refund_order.restock);
    end if;
    perform end_change(before);
    return order_data(of_order);
end
$$;
