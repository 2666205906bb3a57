-- reservation_data(id): a reservation as the API returns it. A reservation from before reservations had
-- prices has the current prices.
-- Locks: none.
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
               'lines', s.lines, 'total', s.total)
      from reservations r
     cross join lateral (
           select jsonb_agg(jsonb_build_object(
                                'productId', l.product_id, 'variantId', l.variant_id,
                                'quantity', l.quantity, 'unitPrice', l.price)
                            order by l.product_id, l.variant_id) as lines,
                  sum(l.quantity::numeric * l.price) as total
             from (select h.product_id, h.variant_id, h.quantity,
                          coalesce(h.unit_price, v.price, p.base_price) as price
                     from reservation_lines h
                     join products p on p.id = h.product_id
                     left join variants v on v.id = h.variant_id
                    where h.reservation_id = r.id) l) s
     where r.id = reservation_data.reservation_id
$$;
