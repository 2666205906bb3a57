-- expire_reservations(most): ends overdue reservations, at most `most` per call, the oldest first. Returns
-- their number, which is 0 if no reservation can be ended now. A reservation is left for another time if
-- another transaction works on it or has locked one of its products; the others end. Safe to run from many
-- places. The actor is `sweeper` unless the transaction has set another.
-- Locks: products, in the order of ids, because SKIP LOCKED still waits for a row that has just been
-- changed; then their reservations (both SKIP LOCKED); then variants (lock_stock). If no reservation of a
-- portion can be ended, its locks are released before the next portion is read.
-- Raises: 42501 (refuse_strangers).
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
    portion bigint[];  -- the oldest overdue reservations that have not been tried
    newest  reservations;  -- the last one of the previous portion
    locked  text[];
    overdue bigint[];
begin
    perform refuse_strangers();
    loop
        portion := array(select r.id from reservations r
                          where r.status = 'active' and r.expires_at <= moment
                            and (newest.id is null
                                 or (r.expires_at, r.id) > (newest.expires_at, newest.id))
                          order by r.expires_at, r.id
                          limit most);
        if portion = '{}' then
            return 0;
        end if;
        begin
            locked := array(select p.id from products p
                             where p.id = any (array(select l.product_id from reservation_lines l
                                                      where l.reservation_id = any (portion)))
                             order by p.id
                               for no key update skip locked);
            overdue := array(select r.id from reservations r
                              where r.id = any (portion)
                                and r.status = 'active' and r.expires_at <= moment
                                and not exists (select from reservation_lines l
                                                 where l.reservation_id = r.id
                                                   and l.product_id <> all (locked))
                                for update skip locked);
            if overdue = '{}' then
                raise exception 'no reservation of this portion can be ended now' using errcode = 'SS000';
            end if;
            before := begin_change('expire', coalesce(
                nullif(current_setting('stream_server.actor', true), ''), 'sweeper'));
            perform lock_stock(lines_of_reservations(overdue));
            perform give_back(overdue, 'expired', moment, 'expire');
            perform end_change(before);
            return cardinality(overdue);
        exception when sqlstate 'SS000' then
            null;  -- the error has released the portion's locks
        end;
        select * into newest from reservations where id = portion[cardinality(portion)];
    end loop;
end
$$;
