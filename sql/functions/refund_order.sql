-- refund_order(of_order, restock, actor): marks an order as refunded and gives its units back,
-- once; without `restock` they stay sold (they came back broken, or not at all). Gives the order as JSON.
-- Locks: the order; then products, then variants (lock_stock).
-- Raises: SS009 for an unknown order.
create or replace function refund_order(
    of_order bigint, restock boolean default true, actor text default null
) returns jsonb
language plpgsql
security definer
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    before text[] := begin_change('refund', actor);
    closed jsonb;
begin
    closed := close_order(of_order, 'refunded', restock);
    perform end_change(before);
    return closed;
end
$$;
