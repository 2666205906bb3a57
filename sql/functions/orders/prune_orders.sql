-- prune_orders(older_than, most): deletes orders that were made and last changed longer ago than an age,
-- at most `most` per call, the oldest first, with their lines, their refunds and their reservations.
-- Returns their number. An order with a shortfall stays. Sold quantities and the log stay as they are. A
-- payment that arrives after pruning finds no reservation, and a refund finds no order: keep them longer
-- than any payment or refund can take.
-- Locks: the reservations, then the orders (both SKIP LOCKED).
create or replace function prune_orders(older_than interval, most integer default 1000)
returns bigint
language plpgsql
security definer
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    moment timestamptz := now() - older_than;
    until  bigint := first_id_since('orders', moment);
    old    bigint[];
    held   bigint[];
begin
    old := array(select o.id from orders o
                  where o.id < until and o.created_at < moment and o.updated_at < moment
                    and o.status <> 'shortfall'
                  order by o.id
                  limit most);
    held := array(select r.id from reservations r
                   where r.id = any (array(select o.reservation_id from orders o
                                            where o.id = any (old)))
                   order by r.id
                     for update skip locked);
    old := array(select o.id from orders o
                  where o.id = any (old) and o.updated_at < moment and o.status <> 'shortfall'
                    and (o.reservation_id is null or o.reservation_id = any (held))
                  order by o.id
                    for update skip locked);
    held := array(select o.reservation_id from orders o
                   where o.id = any (old) and o.reservation_id is not null);
    delete from order_lines where order_id = any (old);
    delete from reversals where order_id = any (old);
    delete from orders where id = any (old);
    delete from reservation_lines where reservation_id = any (held);
    delete from reservations where id = any (held);
    return cardinality(old);
end
$$;

revoke execute on function prune_orders(interval, integer) from public;
