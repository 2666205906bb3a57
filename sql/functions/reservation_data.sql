-- reservation_data(id): a reservation as the API gives it.
create or replace function reservation_data(reservation_id bigint) returns jsonb
language sql stable
set search_path from current
as $$
    select jsonb_build_object(
               'token', r.token,
               'status', case when r.status = 'active' and r.expires_at <= clock_timestamp()
                              then 'expired' else r.status end,
               'expiresAt', wire_time(r.expires_at),
               'isExtendable', r.status = 'active' and r.extended_at is null,
               'lines', (select jsonb_agg(jsonb_build_object(
                                    'productId', l.product_id, 'variantId', l.variant_id,
                                    'quantity', l.quantity)
                                order by l.product_id, l.variant_id)
                           from reservation_lines l
                          where l.reservation_id = r.id))
      from reservations r
     where r.id = reservation_data.reservation_id
$$;
