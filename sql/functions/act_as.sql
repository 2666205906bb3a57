-- act_as(actor): who changes stock from here on in this transaction; NULL keeps what it has said
-- itself with set_config('stream_server.actor', …, true), else session_user. Gives that name.
create or replace function act_as(actor text) returns text
language sql volatile as $$
    select set_config('stream_server.actor',
                      coalesce(nullif(actor, ''),
                               nullif(current_setting('stream_server.actor', true), ''),
                               session_user),
                      true)
$$;
