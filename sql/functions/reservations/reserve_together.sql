-- reserve_together(product, carts, hold): reserves units of one product, or of its variants, for many
-- checkouts in one transaction: callers that want the same row at the same moment then wait for one
-- commit, not each for the commits of all others. A cart is `{"checkoutToken", "variantId", "quantity",
-- "actor"}`; the caller has checked it. Returns an array in the order of the carts: the reservation of
-- each, as reserve_stock returns it, or null if the caller has to call reserve_stock for it. That is so if
-- there are too few units (reserve_stock ends overdue reservations first), if reserve_stock would raise an
-- error, if the checkout already has a reservation, or if another call is just making one for it.
--
-- Locks: the product, then variants (lock_stock), unless no cart can get its units; then the names of
-- the checkouts, those that are free. It waits only for the product and its variants, never for another
-- call's checkout.
-- Raises: 23514 for a quantity below 1.
create or replace function reserve_together(
    product text,
    carts   jsonb,
    hold    interval default '10 minutes'
) returns jsonb
language plpgsql
security definer
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    before   text[];
    lines    stock_line[];
    line     stock_line;
    moment   timestamptz;
    place    integer := 0;
    checkout text;
    is_alone boolean;
    offers   stock_offer[];
    held     reservations;
    answer   jsonb;
    answers  jsonb := '[]';
begin
    perform refuse_strangers();
    select array_agg((product, c.value ->> 'variantId', c.value ->> 'quantity')::stock_line
                     order by c.ordinality)
      into lines
      from jsonb_array_elements(carts) with ordinality c;
    if not exists (select from unnest(lines) l
                    where not is_short(offer_stock(array[l], strictly => true))) then
        return (select jsonb_agg(null::jsonb) from unnest(lines));
    end if;
    before := begin_change('reserve', null);
    perform lock_stock(lines);
    moment := clock_timestamp();
    foreach line in array lines loop
        checkout := carts -> place ->> 'checkoutToken';
        answer := 'null';
        -- The same key as in reserve_stock.
        is_alone := pg_try_advisory_xact_lock(x'63686563'::integer, hashtext(checkout));
        -- A separate statement, so that it sees what the previous owner of the lock has written.
        offers := case when is_alone then offer_stock(array[line], strictly => true) end;
        if is_alone and not is_short(offers)
           and not exists (select from reservations r
                            where r.checkout_token = checkout and r.status = 'active') then
            insert into reservations (checkout_token, created_at, expires_at)
            values (checkout, moment, moment + hold)
            returning * into held;
            perform set_config('stream_server.actor',
                               coalesce(carts -> place ->> 'actor', before[2], session_user),
                               true),
                    set_config('stream_server.reference', 'reservation ' || held.id, true);
            insert into reservation_lines
                   (reservation_id, product_id, variant_id, quantity, unit_price)
            values (held.id, product, line.variant_id, line.quantity, offers[1].unit_price);
            perform move_stock(array[(product, line.variant_id, 0, line.quantity)::stock_move]);
            answer := jsonb_build_object(
                'token', held.token, 'status', held.status,
                'expiresAt', wire_time(held.expires_at), 'isExtendable', true,
                'lines', jsonb_build_array(jsonb_build_object(
                    'productId', product, 'variantId', line.variant_id,
                    'quantity', line.quantity, 'requested', line.quantity,
                    'unitPrice', offers[1].unit_price)),
                'total', line.quantity::numeric * offers[1].unit_price);
        end if;
        answers := answers || jsonb_build_array(answer);
        place := place + 1;
    end loop;
    perform end_change(before);
    return answers;
end
$$;
