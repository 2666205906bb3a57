-- refuse_ended(held): raises an error if a reservation has ended.
-- Locks: none.
-- Raises: SS005 if it has expired, SS006 if it was released, SS007 if it has become an order.
create or replace function refuse_ended(held reservations) returns void
language plpgsql stable
set search_path from current
as $$
begin
    if held.status = 'converted' then
        raise exception 'the reservation has become an order' using errcode = 'SS007';
    elsif held.status = 'released' then
        raise exception 'the reservation was released' using errcode = 'SS006';
    elsif held.status = 'expired' or held.expires_at <= clock_timestamp() then
        raise exception 'the reservation has expired'
            using errcode = 'SS005',
                  detail = jsonb_build_object('expiredAt', wire_time(held.expires_at));
    end if;
end
$$;
