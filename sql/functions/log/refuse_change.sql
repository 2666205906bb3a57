-- Trigger function, BEFORE DELETE / TRUNCATE on products and variants, and BEFORE UPDATE too on
-- inventory_log, each statement. The hint is the trigger's argument.
-- Raises: 55000, always, but for the one function that prunes the log.
create or replace function refuse_change() returns trigger
language plpgsql
security definer
set search_path from current
as $$
begin
    if tg_table_name = 'inventory_log' and tg_op = 'DELETE'
       and current_setting('stream_server.pruning', true) = 'on' then
        return null;
    end if;
    raise exception '% of % is refused', tg_op, tg_table_name
        using errcode = 'object_not_in_prerequisite_state', hint = tg_argv[0];
end
$$;
