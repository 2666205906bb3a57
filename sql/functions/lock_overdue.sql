-- lock_overdue(lines, moment): the reservations that were overdue at a moment and hold any of the
-- lines' products.
-- Locks: those reservations (SKIP LOCKED: what another one ends is left to it).
create or replace function lock_overdue(lines stock_line[], moment timestamptz) returns bigint[]
language plpgsql
set search_path from current
as $$
begin
    return array(
        select r.id from reservations r
         where r.status = 'active' and r.expires_at <= moment
           and exists (select from reservation_lines l
                        where l.reservation_id = r.id
                          and l.product_id = any (array(select product_id from unnest(lines))))
           for update skip locked);
end
$$;
