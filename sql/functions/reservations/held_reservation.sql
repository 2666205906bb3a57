-- held_reservation(of_token): returns the reservation with this token, locked.
-- Locks: the reservation.
-- Raises: SS004 if it does not exist.
create or replace function held_reservation(of_token text) returns reservations
language plpgsql
set search_path from current
as $$
declare
    held reservations;
begin
    select * into held from reservations where token = of_token for update;
    if not found then
        raise exception 'there is no such reservation' using errcode = 'SS004';
    end if;
    return held;
end
$$;
