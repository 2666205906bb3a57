-- moved_quantity(quantity, change, most): a sold or reserved quantity after a change. `most` is the
-- max_quantity. For unlimited stock (NULL), the quantity stops at the largest integer and stays there,
-- because nothing is refused for it. Postgres inlines this function (see is_short).
-- Locks: none.
-- Raises: 22003 above the largest integer, if the stock is limited.
create or replace function moved_quantity(quantity integer, change bigint, most integer)
returns integer
language sql immutable parallel safe
return case when most is not null then quantity + change
            when quantity = 2147483647 then quantity
            else least(greatest(quantity + change, 0), 2147483647) end;
