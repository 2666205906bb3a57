-- settle_reversals(payment, of_order): applies the known refunds and disputes to the order of a payment,
-- or to an order without a payment, and to alerts. It may be called at any time and any number of times.
-- Returns the alerts that it has raised: `refund_failed`, `dispute`, `dispute_lost`.
--   * A refund of units takes them off the order; once all units or all money went back, the order is
--     refunded. The newest refund, or else the charge, decides whether the remaining units go back on the
--     shelf; if a refund decides later than the charge, its decision is applied then (change_restock).
--   * A failed refund is an alert until the same amount is refunded after all.
--   * A dispute is an alert until it is won; a lost dispute, until somebody acknowledges the alert.
--   * The alert of a payment without an order, or of a payment of too much, closes when the money is
--     refunded.
-- If a payment has neither an order nor an alert of its own, it does not belong to this shop, or not yet:
-- nothing happens.
-- Locks: the order; then products, then variants (lock_stock); alerts.
create or replace function settle_reversals(payment text, of_order bigint default null)
returns text[]
language plpgsql
set search_path from current
as $$
declare
    placed   orders;
    before   text[];
    each     reversals;
    whole    numeric := 0;
    total    numeric := 0;
    refunded numeric;
    is_all   boolean;
    what     text;
    decisive reversals;
    kept     jsonb;
    news     text[] := '{}';
begin
    select * into placed from orders o
     where o.id = of_order or o.payment_reference = payment
       for update;
    if not found and not exists (
        select from stock_alerts a
         where a.source = payment and a.level = 'payment' and a.product_id is null) then
        return news;
    end if;
    payment := coalesce(payment, placed.payment_reference);
    what := concat_ws(' of ', payment, 'order ' || placed.id);
    if placed.id is not null then
        update reversals set order_id = placed.id
         where payment_reference = payment and order_id is null;
        before := begin_change('refund', null);
        perform set_config('stream_server.reference', 'order ' || placed.id, true);
        for each in
            select * from reversals r
             where r.order_id = placed.id and r.kind = 'refund' and r.status <> 'failed'
               and r.lines is not null and not r.is_applied
             order by r.recorded_at
        loop
            perform refund_units(placed.id, cart_lines(each.lines), each.restock);
            update reversals set is_applied = true where id = each.id;
        end loop;
        total := order_total(placed.id);
        whole := coalesce(placed.amount, total);
    end if;

    refunded := refunded_amount(payment, placed.id, whole);
    is_all := is_all_refunded(payment, placed.id);
    if placed.id is not null then
        update orders set refunded_amount = refunded
         where id = placed.id and orders.refunded_amount <> refunded;
        is_all := is_all or refunded >= whole and refunded > 0;
        if is_all or not exists (select from order_lines
                                  where order_id = placed.id and refunded_quantity < quantity) then
            select * into decisive from reversals r
             where r.order_id = placed.id and r.kind in ('refund', 'charge')
               and r.status <> 'failed'
             order by r.kind = 'refund' desc, r.occurred_at desc, r.recorded_at desc
             limit 1;
            if placed.status in ('paid', 'shortfall') and decisive.kind = 'charge' then
                select jsonb_agg(jsonb_build_object(
                           'productId', l.product_id, 'variantId', l.variant_id,
                           'quantity', least(l.filled_quantity, l.quantity - l.refunded_quantity)))
                  into kept
                  from order_lines l
                 where l.order_id = placed.id
                   and l.filled_quantity > 0 and l.refunded_quantity < l.quantity;
                update reversals set lines = kept where id = decisive.id;
            elsif decisive.kind = 'refund' then
                -- The charge was reported first and decided otherwise than the refund does.
                update reversals r set restock = decisive.restock
                 where r.order_id = placed.id and r.kind = 'charge'
                   and r.lines is not null and r.restock <> decisive.restock
                returning r.lines into kept;
                if found then
                    perform change_restock(placed.id, cart_lines(kept), decisive.restock);
                end if;
            end if;
            perform close_order(placed.id, 'refunded', coalesce(decisive.restock, false));
        end if;
        if is_all or placed.amount > total and refunded >= placed.amount - total then
            perform close_alert(null, null, 'payment', 'order ' || placed.id);
        end if;
        perform end_change(before);
    end if;
    if is_all then
        perform close_alert(null, null, 'payment', payment);
    end if;

    for each in
        select * from reversals r
         where (r.order_id = placed.id or r.order_id is null and r.payment_reference = payment)
           and r.kind in ('refund', 'dispute')
         order by r.recorded_at
    loop
        if each.status = 'failed' and each.alerted is null then
            update reversals set owed = refunded + coalesce(each.amount, whole), alerted = 'failed'
             where id = each.id;
            perform raise_alert(null, null, 'payment', format(
                'The refund %s of %s (%s) has failed%s: the money has not gone back', each.id,
                format_money(each.amount, each.currency), what, ', ' || each.reason), each.id);
            news := news || 'refund_failed'::text;
        elsif each.kind = 'refund' and each.alerted = 'failed'
              and (each.status <> 'failed' or refunded >= each.owed) then
            perform close_alert(null, null, 'payment', each.id);
            if each.status <> 'failed' then
                update reversals set alerted = null where id = each.id;
            end if;
        elsif each.status in ('open', 'lost') and each.alerted is distinct from each.status then
            update reversals set alerted = each.status where id = each.id;
            perform raise_alert(null, null, 'payment', format(
                case each.status when 'open' then '%s (%s) is disputed%s'
                     else '%s (%s) is gone: the dispute is lost%s' end,
                format_money(each.amount, each.currency), what, ', ' || each.reason), each.id);
            news := news || case each.status when 'open' then 'dispute' else 'dispute_lost' end;
        elsif each.status = 'won' and each.alerted = 'open' then
            perform close_alert(null, null, 'payment', each.id);
            update reversals set alerted = 'won' where id = each.id;
        end if;
    end loop;
    return news;
end
$$;
