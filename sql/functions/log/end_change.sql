-- end_change(before): says for the log again what was said before begin_change.
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
