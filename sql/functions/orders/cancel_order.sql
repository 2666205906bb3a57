-- cancel_order(of_order, actor): cancels an order and gives its units back, once. Returns the order as
-- JSON.
-- Locks: the order; then products, then variants (lock_stock).
-- Raises: SS009 for an unknown order, SS011 if it is refunded.
create or replace function cancel_order(of_order bigint, actor text default null) returns jsonb
language plpgsql
security definer
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    before text[] := begin_change('cancel', actor);
    closed jsonb;
begin
    closed := close_order(of_order, 'cancelled', true);
    perform end_change(before);
    return closed;
end
$$;
