-- prune_replays(older_than): deletes answers to Idempotency-Keys, events of payment providers, and
-- refunds and disputes of payments without an order, if they are older than an age. Returns their number.
-- Stripe sends an event again for up to 3 days.
-- Locks: the deleted rows.
create or replace function prune_replays(older_than interval default '30 days') returns bigint
language sql volatile
security definer
set search_path from current
as $$
    with keys as (
        delete from idempotency_keys where created_at < now() - older_than returning 1),
    events as (
        delete from webhook_events where received_at < now() - older_than returning 1),
    waiting as (
        delete from reversals
         where order_id is null and recorded_at < now() - older_than returning 1)
    select (select count(*) from keys) + (select count(*) from events)
           + (select count(*) from waiting)
$$;

revoke execute on function prune_replays(interval) from public;
