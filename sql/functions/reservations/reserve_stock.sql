-- reserve_stock(checkout, cart, hold, allow_partial, actor): reserves the units of a cart for the time
-- `hold`. Returns the reservation as JSON; its lines have `requested`, `quantity` and `unitPrice`. The
-- order that it becomes has these prices, whatever the products cost by then.
--
--     select reserve_stock('checkout-81', '[{"productId": "Unit-8x8x8", "quantity": 2,
--                                            "variantId": "Unit-8x8x8-oak"}]');
--
-- `checkout` names the shopper's checkout. A second call with the same name replaces the reservation of
-- the first, whose units count as available; if the call raises an error, that reservation stays. With
-- `allow_partial`, whatever is available is reserved, if it is at least one unit. If there are too few
-- units, overdue reservations of those products and variants end first, so that no shopper is refused
-- because the worker has not ended them yet.
--
-- Locks: the checkout's name; its own reservation; if necessary, overdue reservations (SKIP LOCKED: it
-- never waits for the reservation of another checkout); then products, then variants (lock_stock).
-- Raises: SS001 for a malformed cart, SS002 for an unknown product or variant, SS003 for too little stock,
-- SS012 for more units than max_per_order; 55P03 if other transactions are just ending reservations of the
-- products that are short (refuse_while_ending).
create or replace function reserve_stock(
    checkout      text,
    cart          jsonb,
    hold          interval default '10 minutes',
    allow_partial boolean default false,
    actor         text default null
) returns jsonb
language plpgsql
security definer
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    before  text[];
    lines   stock_line[] := cart_lines(cart);
    moment  timestamptz;
    mine    bigint[];
    own     stock_line[];
    glimpse stock_offer[];
    short   stock_line[];
    overdue bigint[] := '{}';
    held    reservations;
    offers  stock_offer[];
    offer   stock_offer;
    line    stock_line;
    moves   stock_move[] := '{}';
    answer  jsonb := '[]';
    total   numeric := 0;
begin
    if coalesce(length(checkout) not between 1 and 200 or checkout ~ '[[:cntrl:]]', true) then
        perform refuse_field('checkoutToken', 'a string of 1 to 200 characters without control characters');
    elsif hold is null or hold <= interval '0' then
        perform refuse_field('hold', 'a positive interval');
    end if;
    before := begin_change('reserve', actor);

    -- Calls for one checkout run one after the other: if the second waited only for the row of the
    -- first, it would wait while it has locks that the first may need. The first of the two keys is
    -- 'chec', which only this lock uses: a single key would share its space with the key of the sleeping
    -- source, and clients choose the token.
    perform pg_advisory_xact_lock(x'63686563'::integer, hashtext(checkout));
    moment := clock_timestamp();
    mine := array(select id from reservations
                   where checkout_token = checkout and status = 'active'
                     for update);
    own := lines_of_reservations(mine);
    if mine <> '{}' then
        update reservations set status = 'released', ended_at = moment where id = any (mine);
    end if;
    -- Read without locks what is available, and whether overdue reservations hold some of it. Most calls
    -- come for products that are sold out: those need not wait for the row one after the other.
    glimpse := offer_stock(lines, own, strictly => true);
    if is_short(glimpse) then
        short := array(select (product_id, variant_id, requested)::stock_line
                         from unnest(glimpse) where granted < requested);
        if overdue_on(short, moment) <> '{}' then
            overdue := lock_overdue(short, moment);
            if overdue = '{}' then
                perform refuse_while_ending(short, moment);
            end if;
        end if;
        if overdue = '{}' then
            -- Read again: another transaction may have ended the overdue reservations meanwhile.
            perform check_offers(lines, offer_stock(lines, own, strictly => true), allow_partial);
        end if;
    end if;
    insert into reservations (checkout_token, created_at, expires_at)
    values (checkout, moment, moment + hold)
    returning * into held;

    perform set_config('stream_server.reference', 'reservation ' || held.id, true);
    if overdue = '{}' then
        perform lock_stock(lines || own);
    else
        perform lock_stock(lines || own || lines_of_reservations(overdue));
        perform give_back(overdue, 'expired', moment, 'expire');
    end if;
    offers := offer_stock(lines, own, strictly => true);
    if is_short(offers) then
        short := array(select (product_id, variant_id, requested)::stock_line
                         from unnest(offers) where granted < requested);
        perform refuse_while_ending(short, moment);
        perform check_offers(lines, offers, allow_partial);
    end if;
    foreach offer in array offers loop
        moves := moves
                 || (offer.product_id, offer.variant_id, 0, offer.granted)::stock_move;
        answer := answer || jsonb_build_object(
            'productId', offer.product_id, 'variantId', offer.variant_id,
            'quantity', offer.granted, 'requested', offer.requested,
            'unitPrice', offer.unit_price);
        total := total + offer.granted::numeric * offer.unit_price;
    end loop;
    foreach line in array own loop
        moves := moves || (line.product_id, line.variant_id, 0, -line.quantity)::stock_move;
    end loop;
    insert into reservation_lines (reservation_id, product_id, variant_id, quantity, unit_price)
    select held.id, product_id, variant_id, granted, unit_price from unnest(offers) where granted > 0;
    perform move_stock(moves);

    perform end_change(before);
    return jsonb_build_object(
        'token', held.token, 'status', held.status, 'expiresAt', wire_time(held.expires_at),
        'isExtendable', true, 'lines', answer, 'total', total);
end
$$;
