-- begin_change(as_operation, by_actor): what every command that changes stock starts with. Says for
-- the log what is being done and by whom: `by_actor`; without it, whom the transaction has named
-- with set_config('stream_server.actor', …, true), else session_user. Gives what was said before, for
-- end_change. An error undoes what is said here together with all else.
-- Raises: 42501 for somebody who may not change products (refuse_strangers).
create or replace function begin_change(as_operation text, by_actor text) returns text[]
language plpgsql
set search_path from current
as $$
declare
    before text[] := array[current_setting('stream_server.operation', true),
                           current_setting('stream_server.actor', true),
                           current_setting('stream_server.reason', true),
                           current_setting('stream_server.note', true),
                           current_setting('stream_server.reference', true)];
begin
    perform refuse_strangers();
    perform set_config('stream_server.operation', as_operation, true),
            set_config('stream_server.actor',
                       coalesce(nullif(by_actor, ''), nullif(before[2], ''), session_user), true);
    return before;
end
$$;
