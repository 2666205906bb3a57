-- lock_payment(payment): makes reports of one payment run one after the other: a refund that arrives
-- while its order is made would not see that order.
-- Locks: the payment's name, until the transaction ends. The first of the two keys is 'paid', which only
-- this lock uses.
create or replace function lock_payment(payment text) returns void
language sql volatile
set search_path from current
as $$
    select pg_advisory_xact_lock(x'70616964'::integer, hashtext(payment))
$$;
