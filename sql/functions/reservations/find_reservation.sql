-- find_reservation(of_token): returns an active or converted reservation as JSON.
-- Locks: none.
-- Raises: SS004 if it is unknown, SS005 if it has expired, SS006 if it was released.
create or replace function find_reservation(of_token text) returns jsonb
language plpgsql stable
security definer
set search_path from current
as $$
declare
    held reservations;
begin
    perform refuse_strangers();
    select * into held from reservations where token = of_token;
    if not found then
        raise exception 'there is no such reservation' using errcode = 'SS004';
    elsif held.status <> 'converted' then
        perform refuse_ended(held);
    end if;
    return reservation_data(held.id);
end
$$;
