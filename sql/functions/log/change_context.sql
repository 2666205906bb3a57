-- change_context(default_operation): who changes stock and why, from the transaction's settings such as
-- set_config('stream_server.actor', …, true): operation, actor, reason, note, reference, idempotency_key,
-- batch_id. Each is NULL if it is not set, except two: the operation is then that of the statement, the
-- actor the session's user.
-- Locks: none.
create or replace function change_context(default_operation text)
returns table (operation text, actor text, reason text, note text, reference text,
               idempotency_key text, batch_id bigint)
language sql stable rows 1
begin atomic
    select coalesce(nullif(current_setting('stream_server.operation', true), ''),
                    lower(default_operation)),
           coalesce(nullif(current_setting('stream_server.actor', true), ''), session_user),
           nullif(current_setting('stream_server.reason', true), ''),
           nullif(current_setting('stream_server.note', true), ''),
           nullif(current_setting('stream_server.reference', true), ''),
           nullif(current_setting('stream_server.idempotency_key', true), ''),
           nullif(current_setting('stream_server.batch_id', true), '')::bigint;
end;
