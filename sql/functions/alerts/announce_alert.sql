-- announce_alert(alert_id): notifies the channel stock_alerts that an alert has been opened, changed or
-- closed, unless notify_mode is `never` (announce_changes).
-- Locks: none.
create or replace function announce_alert(alert_id bigint) returns void
language plpgsql
set search_path from current
as $$
begin
    if not exists (select from stream_settings where name = 'notify_mode' and value = 'never') then
        perform pg_notify('stock_alerts', alert_id::text);
    end if;
end
$$;
