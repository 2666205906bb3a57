-- prune_reservations(older_than, most): deletes reservations that ended without an order and longer ago
-- than an age, at most `most` per call, the oldest first. Returns their number. A payment that arrives
-- after pruning finds no reservation: keep them longer than any payment can take. The log stays.
-- Locks: the deleted rows (SKIP LOCKED).
create or replace function prune_reservations(
    older_than interval default '30 days', most integer default 10000
)
returns bigint
language sql volatile
security definer
set search_path from current
as $$
    with old as materialized (
        select r.id from reservations r
         where r.status in ('released', 'expired') and r.ended_at < now() - older_than
           and not exists (select from orders o where o.reservation_id = r.id)
         order by r.id
         limit most
           for update skip locked),
    lines as (
        delete from reservation_lines where reservation_id in (select id from old)),
    pruned as (
        delete from reservations where id in (select id from old) returning 1)
    select count(*) from pruned
$$;

revoke execute on function prune_reservations(interval, integer) from public;
