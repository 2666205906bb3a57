-- is_short(offers): whether a line gets fewer units than it requests. The body is standard SQL, whose
-- names are resolved when the function is created, so Postgres inlines it.
-- Locks: none.
create or replace function is_short(offers stock_offer[]) returns boolean
language sql immutable
return exists (select from unnest(offers) where granted < requested);
