-- expire_reservations(most): ends reservations that are overdue, `most` at once, the oldest first;
-- gives their number. It waits for nobody: a reservation that another one works on, or of which a
-- product is locked, is left for the next time, and the others end. Safe to run from many places.
-- The actor is `sweeper` unless the transaction names another.
-- Locks: products, then their reservations (both SKIP LOCKED); then variants (lock_stock).
create or replace function expire_reservations(most integer default 100) returns integer
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    before  text := current_setting('stream_server.actor', true);
    moment  timestamptz := clock_timestamp();
    due     record;
    locked  text[] := '{}';  -- products, by us
    taken   text[] := '{}';  -- and by others
    overdue bigint[] := '{}';
begin
    for due in
        select r.id, array(select distinct l.product_id from reservation_lines l
                            where l.reservation_id = r.id) as products
          from reservations r
         where r.status = 'active' and r.expires_at <= moment
         order by r.expires_at
    loop
        exit when cardinality(overdue) >= most;
        if not due.products && taken then
            locked := locked || array(select p.id from products p
                                       where p.id = any (due.products) and p.id <> all (locked)
                                       order by p.id
                                         for no key update skip locked);
            if due.products <@ locked then
                overdue := overdue || array(select r.id from reservations r
                                             where r.id = due.id
                                               and r.status = 'active' and r.expires_at <= moment
                                               for update skip locked);
            else
                taken := taken || array(select unnest(due.products) except select unnest(locked));
            end if;
        end if;
    end loop;
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
