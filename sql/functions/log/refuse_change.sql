-- Trigger function: BEFORE DELETE and BEFORE TRUNCATE on products and variants, also BEFORE UPDATE on
-- inventory_log, for each statement. The trigger's argument is the hint.
-- Locks: none.
-- Raises: 55000, always, except for prune_inventory_log.
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
    raise exception '% on % is not allowed', tg_op, tg_table_name
        using errcode = 'object_not_in_prerequisite_state', hint = tg_argv[0];
end
$$;
