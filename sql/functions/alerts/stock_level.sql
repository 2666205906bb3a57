-- stock_level(status, available, threshold): 'out', 'low' or 'ok', for one row by its own numbers. Only a
-- row that can be bought is low or out: a draft, a discontinued row, an unlimited row and a row that does
-- not exist (NULLs) are 'ok'. Postgres inlines this function (see is_short).
-- Locks: none.
create or replace function stock_level(status text, available integer, threshold integer)
returns text
language sql immutable parallel safe
return case when status = 'active' and available <= 0 then 'out'
            when status = 'active' and available <= threshold then 'low'
            else 'ok' end;
