-- lock_overdue(lines, moment): locks and returns the reservations that were overdue at a moment and hold
-- any of the lines' products.
-- Locks: those reservations (SKIP LOCKED: it skips reservations that another transaction is ending).
create or replace function lock_overdue(lines stock_line[], moment timestamptz) returns bigint[]
language plpgsql
set search_path from current
as $$
declare
    due bigint[] := overdue_on(lines, moment);
begin
    if due = '{}' then
        return due;
    end if;
    return array(select r.id from reservations r
                  where r.id = any (due) and r.status = 'active' and r.expires_at <= moment
                    for update skip locked);
end
$$;
