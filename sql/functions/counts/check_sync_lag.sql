-- check_sync_lag(default_limit): returns each external system and the age of its newest count. Opens the
-- alert 'lag' of a source whose age exceeds its limit (sync_state.lag_limit, else default_limit). Closes
-- the alert when the age no longer exceeds it, or the source no longer exists.
-- Locks: the alerts that it opens or closes.
-- Raises: 42501 (refuse_strangers).
create or replace function check_sync_lag(default_limit interval)
returns table (source text, lag interval, is_late boolean)
language plpgsql
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    of_source sync_state;
begin
    perform refuse_strangers();
    for of_source in select * from sync_state s order by s.source loop
        source := of_source.source;
        lag := greatest(clock_timestamp() - of_source.last_occurred_at, interval '0');
        is_late := lag > coalesce(of_source.lag_limit, default_limit);
        if is_late then
            perform raise_alert(null, null, 'lag', format(
                'The newest count of %s is older than %s minutes', source,
                round(extract(epoch from coalesce(of_source.lag_limit, default_limit)) / 60)),
                source);
        else
            perform close_alert(null, null, 'lag', source);
        end if;
        return next;
    end loop;
    perform close_alert(null, null, 'lag', a.source)
       from stock_alerts a
      where a.level = 'lag' and a.closed_at is null
        and not exists (select from sync_state s where s.source = a.source);
end
$$;
