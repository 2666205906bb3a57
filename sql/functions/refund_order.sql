-- refund_order(of_order, restock, actor): marks an order as refunded and gives its units back,
-- once; without `restock` they stay sold (they came back broken, or not at all). Gives the order as JSON.
-- Locks: the order; then products, then variants (lock_stock).
-- Raises: SS009 for an unknown order.
create or replace function refund_order(
    of_order bigint, restock boolean default true, actor text default null
) returns jsonb
language plpgsql
set stream_server.operation = 'refund'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    before text := current_setting('stream_server.actor', true);
    closed jsonb;
begin
    perform act_as(actor);
    closed := close_order(of_order, 'refunded', restock);
    perform set_config('stream_server.actor', coalesce(before, ''), true);
    return closed;
end
$$;
