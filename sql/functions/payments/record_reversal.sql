-- record_reversal(reversal, payment, as_kind, now_status, at, …, actor): records a payment provider's
-- report, and applies it (settle_reversals). The kinds and their statuses are:
--   refund   pending, succeeded, failed
--   charge   succeeded: the sum of a charge's refunds; `is_all` if that is the whole charge
--   dispute  open, won, lost
-- A report may arrive twice, late, in any order and before its order: the report of the latest moment
-- counts. `lines` are the units of a refund, in the form of a cart; without them the refund is money only,
-- until the whole payment is refunded. With `restock` its units go back on the shelf, at the end the
-- remaining units, too. Amounts are in the currency's smallest unit. Returns `{"orderId", "orderStatus",
-- "isOurs", "news"}`: the order if there is one, whether the payment is known here, and the alerts raised.
-- Locks: the payment's name; the order; then products, then variants (lock_stock); alerts.
-- Raises: SS001 for malformed lines.
create or replace function record_reversal(
    reversal   text,
    payment    text,
    as_kind    text,
    now_status text,
    at         timestamptz,
    amount     bigint default null,
    currency   text default null,
    is_all     boolean default false,
    restock    boolean default false,
    lines      jsonb default null,
    reason     text default null,
    actor      text default null
) returns jsonb
language plpgsql
security definer
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    before text[] := begin_change('refund', record_reversal.actor);
    placed orders;
    news   text[];
begin
    if record_reversal.lines is not null then
        perform cart_lines(record_reversal.lines);
    end if;
    perform lock_payment(record_reversal.payment);
    perform from orders o where o.payment_reference = record_reversal.payment for update;
    insert into reversals as r (id, payment_reference, kind, status, occurred_at, amount, currency,
                                is_all, restock, lines, reason)
    values (record_reversal.reversal, record_reversal.payment, record_reversal.as_kind,
            record_reversal.now_status, record_reversal.at, record_reversal.amount,
            upper(record_reversal.currency), record_reversal.is_all, record_reversal.restock,
            record_reversal.lines, record_reversal.reason)
        on conflict (id) do update
       set status = excluded.status, occurred_at = excluded.occurred_at,
           recorded_at = excluded.recorded_at,
           amount = coalesce(excluded.amount, r.amount),
           currency = coalesce(excluded.currency, r.currency),
           is_all = excluded.is_all,
           -- A decision about a refund stays; for a charge, the newest report decides until units have
           -- been moved according to it.
           restock = case when r.kind = 'charge' and r.lines is null then excluded.restock
                          else r.restock end,
           lines = coalesce(r.lines, excluded.lines),
           reason = coalesce(excluded.reason, r.reason)
     where r.kind = excluded.kind
       and not (r.status in ('won', 'lost') and excluded.status = 'open')
       and (r.occurred_at < excluded.occurred_at
            or r.occurred_at = excluded.occurred_at and excluded.status <> 'pending'
               and (r.kind <> 'charge' or excluded.is_all or not r.is_all)
               and (r.kind <> 'charge' or excluded.amount >= r.amount) is not false);
    news := settle_reversals(record_reversal.payment);
    select * into placed from orders o where o.payment_reference = record_reversal.payment;
    perform end_change(before);
    return jsonb_build_object(
        'orderId', placed.id, 'orderStatus', placed.status, 'news', to_jsonb(news),
        'isOurs', placed.id is not null or exists (
            select from stock_alerts a
             where a.source = record_reversal.payment and a.level = 'payment'
               and a.product_id is null));
end
$$;
