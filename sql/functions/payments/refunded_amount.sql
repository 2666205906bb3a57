-- refunded_amount(payment, of_order, whole): the amount of a payment, or of an order, that was refunded:
-- the sum of the known refunds or the provider's sum, whichever is larger. A refund that failed after the
-- provider had summed it up is subtracted. `whole` replaces an amount that is not known.
-- Locks: none.
create or replace function refunded_amount(payment text, of_order bigint, whole numeric)
returns numeric
language sql stable
set search_path from current
as $$
    with mine as (
        select * from reversals r
         where r.order_id = of_order or r.order_id is null and r.payment_reference = payment),
    charges as (
        select c.id, coalesce(c.amount, whole)
                     - coalesce(sum(coalesce(f.amount, whole)) filter (where f.id is not null), 0)
                     as amount
          from mine c
          left join mine f on f.kind = 'refund' and f.status = 'failed'
                          and (f.occurred_at, f.recorded_at) > (c.occurred_at, c.recorded_at)
         where c.kind = 'charge'
         group by c.id, c.amount)
    select greatest(coalesce((select sum(amount) from mine
                               where kind = 'refund' and status <> 'failed'), 0),
                    coalesce((select sum(amount) from charges), 0))
$$;
