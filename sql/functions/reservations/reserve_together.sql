-- reserve_together(product, carts, hold): holds units of one product, or of its variants, for many
-- checkouts in one transaction: those who want the same row at the same moment then wait for one
-- commit, and not each for all the others'. A cart is `{"checkoutToken", "variantId", "quantity",
-- "actor"}`, checked by the caller. Gives an array in the order of the carts: each one's
-- reservation as reserve_stock gives it, or null where there is more to do, to say or to wait for,
-- and reserve_stock is to be asked: too few units (it ends overdue holds first), what it refuses, a
-- checkout that holds something already, or that another call is just holding something for.
--
-- Locks: the product, then variants (lock_stock), unless none of the carts can be had; then the
-- checkouts' names, as far as they are free. It waits for the product and its variants only: nobody
-- waits for another one's checkout.
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
        -- The same as in reserve_stock.
        is_alone := pg_try_advisory_xact_lock(x'63686563'::integer, hashtext(checkout));
        -- A statement of its own, so that it sees what the last one to have the name has done.
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
