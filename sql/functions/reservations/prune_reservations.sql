-- prune_reservations(older_than, most): forgets holds that ended without an order longer ago than
-- that, `most` at once, the oldest first; gives their number. A payment for one that comes later
-- still is for an unknown reservation, so keep them for longer than payments take. The log stays.
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
