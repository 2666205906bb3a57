-- complete_order(reservation, cart, payment, record_shortfall, actor): sells the units of a reservation,
-- or of a cart directly. Returns the order as JSON.
--
--     select complete_order(reservation => '7f1f…', payment => 'pi_3OqX…');
--     select complete_order(cart => '[{"productId": "Poster", "quantity": 1}]');
--
-- A reservation becomes one order, and so does a payment: a second call, by any caller, returns the same
-- order and sells nothing more. If a reservation has ended, its units are taken from stock again. If there
-- are too few, overdue reservations of the same products end first. A newer reservation of the same
-- checkout is released first if it holds some of the missing units, so that a shopper is not blocked by
-- their own newer hold; it stays if there is enough for both, or if its release would not help. If there
-- are still too few units, nothing changes (SS003). With `record_shortfall`, because the money has been
-- paid already, the order takes the units that are available and gets the status `shortfall`, and an alert
-- is raised. A second call for such an order takes units that have come in since, and closes the alert.
--
-- An order has the prices of its reservation, also if that has ended: the shopper paid these prices.
-- Without a reservation, the current prices count. If a refund of the payment was reported before the
-- order, it is applied now (settle_reversals).
--
-- Locks: the payment's name; the reservation; the order; a newer reservation of the same checkout; if
-- necessary, overdue reservations of the same products (SKIP LOCKED); then products, then variants
-- (lock_stock).
-- Raises: SS001 for a malformed cart, and unless either reservation or cart is given; SS002 for an unknown
-- product or variant; SS003 for too little stock; SS004 for an unknown reservation; SS010 if payment,
-- reservation and cart do not belong together; SS012 for more units than max_per_order; 55P03 if other
-- transactions are just ending reservations of the products that are short (refuse_while_ending).
create or replace function complete_order(
    reservation      text default null,
    cart             jsonb default null,
    payment          text default null,
    record_shortfall boolean default false,
    actor            text default null
) returns jsonb
language plpgsql
security definer
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    before  text[] := begin_change('sale', actor);
    moment  timestamptz := clock_timestamp();
    held    reservations;
    lines   stock_line[];
    placed  orders;
    is_new  boolean;
    each    record;
    overdue bigint[];
    newer   bigint[];
    offers  stock_offer[];
    offer   stock_offer;
begin
    if (reservation is null) = (cart is null) then
        perform refuse_field('reservationToken', 'given if lines are not, and only then');
    elsif length(payment) not between 1 and 200 or payment ~ '[[:cntrl:]]' then
        perform refuse_field('paymentReference',
                             'a string of 1 to 200 characters without control characters');
    end if;
    if payment is not null then
        perform lock_payment(payment);
    end if;
    if cart is not null then
        lines := cart_lines(cart);
    else
        held := held_reservation(reservation);
        lines := lines_of_reservations(array[held.id]);
    end if;
    select * into each from place_order(held, payment,
                                          current_setting('stream_server.actor'));
    placed := each.placed;
    is_new := each.is_new;
    perform set_config('stream_server.reference', 'order ' || placed.id, true);

    if not is_new then
        if lines is distinct from array(
            select (product_id, variant_id, quantity)::stock_line from order_lines
             where order_id = placed.id order by product_id, variant_id) then
            raise exception 'this payment has completed another order'
                using errcode = 'SS010', detail = jsonb_build_object('orderId', placed.id);
        end if;
        lines := array(
            select (product_id, variant_id,
                    quantity - filled_quantity - refunded_quantity)::stock_line
              from order_lines
             where order_id = placed.id and filled_quantity + refunded_quantity < quantity
             order by product_id, variant_id);
    end if;

    if is_new then
        update reservations
           set status = 'converted', ended_at = coalesce(ended_at, moment)
         where id = held.id;
    end if;
    if is_new and held.status = 'active' then
        perform lock_stock(lines);
        perform move_stock(array(select (product_id, variant_id, quantity, -quantity)::stock_move
                                   from unnest(lines)));
        offers := array(select (product_id, variant_id, quantity, quantity, quantity,
                                null)::stock_offer
                          from unnest(lines));
    elsif is_new or placed.status = 'shortfall' then
        newer := array(select id from reservations
                        where checkout_token = held.checkout_token and status = 'active'
                          for update);
        overdue := '{}';
        if is_short(offer_stock(lines, lines_of_reservations(newer))) then
            overdue := array(select unnest(lock_overdue(lines, moment))
                             except select unnest(newer));
        end if;
        perform lock_stock(lines || lines_of_reservations(overdue || newer));
        if overdue <> '{}' then
            perform give_back(overdue, 'expired', moment, 'expire');
        end if;
        if newer <> '{}' and total_granted(offer_stock(lines))
                             < total_granted(offer_stock(lines, lines_of_reservations(newer))) then
            perform give_back(newer, 'released', moment, 'release');
        end if;
        if is_new and cart is not null then
            perform check_lines(lines);
        end if;
        offers := offer_stock(lines);
        if is_short(offers) then
            perform refuse_while_ending(lines, moment);
            if is_new and not record_shortfall then
                perform refuse_shortage(offers);
            end if;
        end if;
        perform move_stock(array(select (product_id, variant_id, granted, 0)::stock_move
                                   from unnest(offers)));
    end if;

    if is_new then
        insert into order_lines (order_id, product_id, variant_id, quantity, filled_quantity,
                                 unit_price)
        select placed.id, o.product_id, o.variant_id, o.requested, o.granted,
               coalesce(h.unit_price, v.price, p.base_price)
          from unnest(offers) o
          join products p on p.id = o.product_id
          left join variants v on v.id = o.variant_id
          left join reservation_lines h on h.reservation_id = held.id
                                       and h.product_id = o.product_id
                                       and h.variant_id is not distinct from o.variant_id;
    elsif offers is not null then
        update order_lines l set filled_quantity = l.filled_quantity + o.granted
          from unnest(offers) o
         where l.order_id = placed.id and l.product_id = o.product_id
           and l.variant_id is not distinct from o.variant_id;
    end if;
    if offers is not null then
        update orders
           set status = case when is_short(offers) then 'shortfall' else 'paid' end,
               updated_at = clock_timestamp()
         where id = placed.id;
        foreach offer in array offers loop
            if offer.granted < offer.requested then
                perform raise_alert(
                    offer.product_id, offer.variant_id, 'shortfall',
                    format('Order %s is paid, but %s of %s could not be taken from stock',
                           placed.id, offer.requested - offer.granted, offer.requested),
                    'order ' || placed.id);
            elsif not is_new then
                perform close_alert(offer.product_id, offer.variant_id, 'shortfall',
                                    'order ' || placed.id);
            end if;
        end loop;
    end if;
    if payment is not null then
        perform settle_reversals(payment);
    end if;
    perform end_change(before);
    return order_data(placed.id);
end
$$;
