-- overdue_on(lines, moment): the reservations that were overdue at a moment and hold any of the lines'
-- products. The first query reads the overdue reservations, which are few, the second one their lines: a
-- single query would read the lines of all reservations there ever were.
-- Locks: none.
create or replace function overdue_on(lines stock_line[], moment timestamptz) returns bigint[]
language plpgsql
set search_path from current
as $$
declare
    due bigint[] := array(select r.id from reservations r
                           where r.status = 'active' and r.expires_at <= moment);
begin
    if due = '{}' then
        return due;
    end if;
    return array(select l.reservation_id from reservation_lines l
                  where l.reservation_id = any (due)
                    and l.product_id = any (array(select product_id from unnest(lines))));
end
$$;
