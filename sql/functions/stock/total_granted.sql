-- total_granted(offers): the number of units that all lines get together.
-- Locks: none.
create or replace function total_granted(offers stock_offer[]) returns bigint
language sql immutable
set search_path from current
as $$
    select sum(granted) from unnest(offers)
$$;
