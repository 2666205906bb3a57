-- release_reservation(of_token, actor): ends a reservation and gives back the units that it holds. Returns
-- it as JSON.
-- Locks: the reservation; then products, then variants (lock_stock).
-- Raises: SS004 if it is unknown, SS005 if it has expired, SS006 if it was released before, SS007 if it
-- has become an order.
create or replace function release_reservation(of_token text, actor text default null)
returns jsonb
language plpgsql
security definer
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    before text[] := begin_change('release', actor);
    held   reservations := held_reservation(of_token);
begin
    if held.status <> 'active' then
        perform refuse_ended(held);
    end if;
    perform lock_stock(lines_of_reservations(array[held.id]));
    perform give_back(array[held.id], 'released', clock_timestamp(), 'release');
    perform end_change(before);
    return reservation_data(held.id);
end
$$;
