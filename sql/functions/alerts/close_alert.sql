-- close_alert(product_id, variant_id, level [, source]): closes the open alert; returns false if there is
-- none. The opposite of raise_alert. Announces the alert's id on the channel stock_alerts.
-- Locks: the alert's row.
-- Raises: 42501 (refuse_strangers).
create or replace function close_alert(
    product_id text, variant_id text, level text, source text default null)
returns boolean
language plpgsql
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    closed bigint;
begin
    perform refuse_strangers();
    update stock_alerts a
       set closed_at = clock_timestamp(), changed_xid = pg_current_xact_id()
     where a.product_id is not distinct from close_alert.product_id
       and a.variant_id is not distinct from close_alert.variant_id
       and a.source is not distinct from close_alert.source
       and a.level = close_alert.level
       and a.closed_at is null
    returning a.id into closed;
    if closed is null then
        return false;
    end if;
    perform announce_alert(closed);
    return true;
end
$$;
