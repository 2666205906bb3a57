-- is_short(offers): whether some line gets less than it asks for. Its names were found when it was
-- made (a body of standard SQL), so that it is inlined where it is called.
create or replace function is_short(offers stock_offer[]) returns boolean
language sql immutable
return exists (select from unnest(offers) where granted < requested);
