-- expire_reservations(most): ends reservations that are overdue, `most` at once, the oldest first;
-- gives their number. Safe to run from many places: what another one works on is left to it.
-- The actor is `sweeper` unless the transaction names another.
-- Locks: the reservations (SKIP LOCKED); then products, then variants (lock_stock).
create or replace function expire_reservations(most integer default 100) returns integer
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    before  text := current_setting('stream_server.actor', true);
    moment  timestamptz := clock_timestamp();
    overdue bigint[];
begin
    overdue := array(select id from reservations
                      where status = 'active' and expires_at <= moment
                      order by expires_at
                      limit most
                        for update skip locked);
    if overdue = '{}' then
        return 0;
    end if;
    perform act_as(coalesce(nullif(before, ''), 'sweeper'));
    perform lock_stock(lines_of_reservations(overdue));
    perform give_back(overdue, 'expired', moment, 'expire');
    perform set_config('stream_server.actor', coalesce(before, ''), true);
    return cardinality(overdue);
end
$$;
