-- refuse_while_ending(lines, moment): to be asked before something is refused for want of stock,
-- after overdue holds have been ended: whether others are just ending more of them, on the lines'
-- products. They have them locked, and wait for products that are locked here.
-- Locks: none.
-- Raises: 55P03 (lock_not_available) if so: the same call, made again, finds what they give back.
create or replace function refuse_while_ending(lines stock_line[], moment timestamptz)
returns void
language plpgsql
set search_path from current
as $$
begin
    if overdue_on(lines, moment) <> '{}' then
        raise exception 'overdue holds on this are just being ended'
            using errcode = 'lock_not_available', hint = 'Call again.';
    end if;
end
$$;
