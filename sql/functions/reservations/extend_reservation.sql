-- extend_reservation(of_token, by): extends a reservation, once. Returns it as JSON.
-- Locks: the reservation.
-- Raises: SS004 if it is unknown, SS005 if it has expired, SS006 if it was released, SS007 if it has
-- become an order, SS008 if it has already been extended.
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
        raise exception 'the reservation has already been extended' using errcode = 'SS008';
    end if;
    update reservations
       set expires_at = expires_at + by, extended_at = clock_timestamp()
     where id = held.id;
    return reservation_data(held.id);
end
$$;
