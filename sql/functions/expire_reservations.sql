-- expire_reservations(most): ends reservations that are overdue, `most` at once, the oldest first;
-- gives their number: 0 when none is left, or of the oldest none can be ended now. A reservation
-- that another one works on, or of which a product is locked, is left for another time, and the
-- others end. Safe to run from many places. The actor is `sweeper` unless the transaction names another.
-- Locks: products, in the order of ids, because where a row has just been changed SKIP LOCKED waits
-- all the same; then their reservations (both SKIP LOCKED); then variants (lock_stock).
create or replace function expire_reservations(most integer default 100) returns integer
language plpgsql
security definer
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    before  text[];
    moment  timestamptz := clock_timestamp();
    due     bigint[];
    passed  bigint[] := '{}';  -- of which not one product was free
    locked  text[];
    overdue bigint[];
begin
    perform refuse_strangers();
    loop
        due := array(select r.id from reservations r
                      where r.status = 'active' and r.expires_at <= moment
                        and r.id <> all (passed)
                      order by r.expires_at
                      limit most);
        if due = '{}' then
            return 0;
        end if;
        locked := array(select p.id from products p
                         where p.id = any (array(select l.product_id from reservation_lines l
                                                  where l.reservation_id = any (due)))
                         order by p.id
                           for no key update skip locked);
        exit when locked <> '{}';
        passed := passed || due;
    end loop;
    overdue := array(select r.id from reservations r
                      where r.id = any (due) and r.status = 'active' and r.expires_at <= moment
                        and not exists (select from reservation_lines l
                                         where l.reservation_id = r.id
                                           and l.product_id <> all (locked))
                        for update skip locked);
    if overdue = '{}' then
        return 0;
    end if;
    before := begin_change('expire', coalesce(
        nullif(current_setting('stream_server.actor', true), ''), 'sweeper'));
    perform lock_stock(lines_of_reservations(overdue));
    perform give_back(overdue, 'expired', moment, 'expire');
    perform end_change(before);
    return cardinality(overdue);
end
$$;
