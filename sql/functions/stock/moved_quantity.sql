-- moved_quantity(quantity, change, most): a sold or reserved quantity after a change. Of unlimited stock
-- (`most`, the max_quantity, is NULL) it ends at the largest integer, and stays there, because nothing
-- is refused for it. Locks nothing; inlined where it is called (as is_short).
-- Raises: 22003 past the largest integer, if it is limited.
create or replace function moved_quantity(quantity integer, change bigint, most integer)
returns integer
language sql immutable parallel safe
return case when most is not null then quantity + change
            when quantity = 2147483647 then quantity
            else least(greatest(quantity + change, 0), 2147483647) end;
