-- end_change(before): restores the settings for the log from before begin_change.
-- Locks: none.
create or replace function end_change(before text[]) returns void
language plpgsql
set search_path from current
as $$
begin
    perform set_config('stream_server.operation', coalesce(before[1], ''), true),
            set_config('stream_server.actor', coalesce(before[2], ''), true),
            set_config('stream_server.reason', coalesce(before[3], ''), true),
            set_config('stream_server.note', coalesce(before[4], ''), true),
            set_config('stream_server.reference', coalesce(before[5], ''), true);
end
$$;
