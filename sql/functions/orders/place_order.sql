-- place_order(held, payment, by): makes an order for a reservation (or none) and a payment (or none). If
-- the reservation or the payment already has an order, returns that, with is_new false.
-- Locks: the order. Waits for a transaction that is placing an order for the same payment.
-- Raises: SS010 if payment and reservation belong to two different orders.
create or replace function place_order(
    held reservations, payment text, by text, out placed orders, out is_new boolean
)
language plpgsql
set search_path from current
as $$
begin
    insert into orders (reservation_id, payment_reference, created_by)
    values (held.id, payment, by)
    on conflict do nothing
    returning * into placed;
    is_new := found;
    if is_new then
        return;
    end if;
    select * into placed from orders o
     where o.reservation_id = held.id or o.payment_reference = payment
     order by o.reservation_id = held.id desc nulls last
     limit 1
       for update;
    if held.id is distinct from placed.reservation_id then
        raise exception 'this payment has completed another order'
            using errcode = 'SS010', detail = jsonb_build_object('orderId', placed.id);
    elsif placed.payment_reference <> payment then
        raise exception 'the order has been paid by another payment'
            using errcode = 'SS010', detail = jsonb_build_object('orderId', placed.id);
    elsif placed.payment_reference is null and payment is not null then
        begin
            update orders set payment_reference = payment, updated_at = clock_timestamp()
             where id = placed.id;
        exception when unique_violation then
            raise exception 'this payment has completed another order'
                using errcode = 'SS010';
        end;
    end if;
end
$$;
