-- expire_reservations(most): ends reservations that are overdue, `most` at once, the oldest first;
-- gives their number: 0 when none is left that can be ended now. A reservation that another one works
-- on, or of which a product is locked, is left for another time, and the others end. Safe to run from
-- many places. The actor is `sweeper` unless the transaction names another.
-- Locks: products, in the order of ids, because where a row has just been changed SKIP LOCKED waits
-- all the same; then their reservations (both SKIP LOCKED); then variants (lock_stock). Those of a
-- portion of which none can be ended are given back before the next one is looked at.
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
    portion bigint[];  -- overdue reservations, the oldest that have not been looked at
    newest  reservations;  -- of the portion before
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
                raise exception 'none of these can be ended now' using errcode = 'SS000';
            end if;
            before := begin_change('expire', coalesce(
                nullif(current_setting('stream_server.actor', true), ''), 'sweeper'));
            perform lock_stock(lines_of_reservations(overdue));
            perform give_back(overdue, 'expired', moment, 'expire');
            perform end_change(before);
            return cardinality(overdue);
        exception when sqlstate 'SS000' then
            null;  -- its locks are gone with it
        end;
        select * into newest from reservations where id = portion[cardinality(portion)];
    end loop;
end
$$;
