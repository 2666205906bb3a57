-- is_all_refunded(payment, of_order): whether the provider says that all of a payment, or of an order's
-- payment, was refunded, and no refund has failed since.
-- Locks: none.
create or replace function is_all_refunded(payment text, of_order bigint) returns boolean
language sql stable
set search_path from current
as $$
    with mine as (
        select * from reversals r
         where r.order_id = of_order or r.order_id is null and r.payment_reference = payment)
    select exists (
        select from mine c
         where c.kind = 'charge' and c.is_all
           and not exists (select from mine f
                            where f.kind = 'refund' and f.status = 'failed'
                              and (f.occurred_at, f.recorded_at) > (c.occurred_at, c.recorded_at)))
$$;
