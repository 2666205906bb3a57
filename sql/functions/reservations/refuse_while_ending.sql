-- refuse_while_ending(lines, moment): called before an error about too little stock, after overdue
-- reservations have been ended. Raises an error if other transactions are just ending more reservations of
-- the lines' products: they have locked those reservations, and wait for products that are locked here.
-- Locks: none.
-- Raises: 55P03 (lock_not_available) in that case: if the same call is made again, it finds the units that
-- the others give back.
create or replace function refuse_while_ending(lines stock_line[], moment timestamptz)
returns void
language plpgsql
set search_path from current
as $$
begin
    if overdue_on(lines, moment) <> '{}' then
        raise exception 'another transaction is ending overdue holds of these products'
            using errcode = 'lock_not_available', hint = 'Call again.';
    end if;
end
$$;
