-- begin_change(as_operation, by_actor): the first step of every command that changes stock. Sets for the
-- log what is done and by whom. The actor is `by_actor`, or else the one that the transaction has set with
-- set_config('stream_server.actor', …, true), or else session_user. Returns the previous settings, for
-- end_change. An error undoes these settings with everything else.
-- Locks: none.
-- Raises: 42501 if the caller may not change products (refuse_strangers).
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
