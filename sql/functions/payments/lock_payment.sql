-- lock_payment(payment): until the transaction ends, what is reported of one payment comes one after the
-- other: a refund that comes while its order is made would not see it. The first of the two keys is
-- 'paid', and nobody else's.
create or replace function lock_payment(payment text) returns void
language sql volatile
set search_path from current
as $$
    select pg_advisory_xact_lock(x'70616964'::integer, hashtext(payment))
$$;
