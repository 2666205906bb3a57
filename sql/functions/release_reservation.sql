-- release_reservation(of_token, actor): ends a reservation and gives back what it holds. Gives it
-- as JSON.
-- Locks: the reservation; then products, then variants (lock_stock).
-- Raises: SS004 unknown, SS005 expired, SS006 released before, SS007 become an order.
create or replace function release_reservation(of_token text, actor text default null)
returns jsonb
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    before text := current_setting('stream_server.actor', true);
    held   reservations := held_reservation(of_token);
begin
    if held.status <> 'active' then
        perform refuse_ended(held);
    end if;
    perform act_as(actor);
    perform lock_stock(lines_of_reservations(array[held.id]));
    perform give_back(array[held.id], 'released', clock_timestamp(), 'release');
    perform set_config('stream_server.actor', coalesce(before, ''), true);
    return reservation_data(held.id);
end
$$;
