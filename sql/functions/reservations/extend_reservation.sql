-- extend_reservation(of_token, by): holds a reservation for longer, once. Gives it as JSON.
-- Locks: the reservation.
-- Raises: SS004 unknown, SS005 expired, SS006 released, SS007 become an order, SS008 extended
-- before.
create or replace function extend_reservation(
    of_token text, by interval default '10 minutes'
) returns jsonb
language plpgsql
security definer
set search_path from current
as $$
declare
    held reservations;
begin
    perform refuse_strangers();
    held := held_reservation(of_token);
    perform refuse_ended(held);
    if held.extended_at is not null then
        raise exception 'the reservation has been extended before' using errcode = 'SS008';
    end if;
    update reservations
       set expires_at = expires_at + by, extended_at = clock_timestamp()
     where id = held.id;
    return reservation_data(held.id);
end
$$;
