-- acknowledge_alert(id, actor): records that somebody has seen an alert. Returns the alert as it is now,
-- or no row if it does not exist. The first acknowledgement counts. It closes alerts of an event (back,
-- shortfall, payment); alerts of a lasting state (low, out, sync, lag) stay open until the state ends.
-- Locks: the alert's row.
-- Raises: 42501 (refuse_strangers).
create or replace function acknowledge_alert(id bigint, actor text) returns setof stock_alerts
language plpgsql
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    perform refuse_strangers();
    update stock_alerts a
       set acknowledged_at = clock_timestamp(), acknowledged_by = acknowledge_alert.actor,
           closed_at = case when a.level in ('back', 'shortfall', 'payment')
                            then coalesce(a.closed_at, clock_timestamp())
                            else a.closed_at end,
           changed_xid = pg_current_xact_id()
     where a.id = acknowledge_alert.id and a.acknowledged_at is null;
    return query select a.* from stock_alerts a where a.id = acknowledge_alert.id;
end
$$;
