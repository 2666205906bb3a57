-- is_short(offers): whether some line gets less than it asks for.
create or replace function is_short(offers stock_offer[]) returns boolean
language sql immutable as $$
    select exists (select from unnest(offers) where granted < requested)
$$;
