-- total_granted(offers): how many units all lines get together.
create or replace function total_granted(offers stock_offer[]) returns bigint
language sql immutable
set search_path from current
as $$
    select sum(granted) from unnest(offers)
$$;
