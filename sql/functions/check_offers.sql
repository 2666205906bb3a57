-- check_offers(lines, offers, allow_partial): whether what could be taken (offer_stock, strictly) is
-- what these lines ask for, or with `allow_partial` at least something.
-- Locks: none.
-- Raises: what check_lines raises; SS003 for too little.
create or replace function check_offers(
    lines stock_line[], offers stock_offer[], allow_partial boolean
)
returns void
language plpgsql as $$
declare
    offer    stock_offer;
    is_short boolean := false;
    is_any   boolean := false;
begin
    foreach offer in array offers loop
        is_short := is_short or offer.granted < offer.requested;
        is_any := is_any or offer.granted > 0;
    end loop;
    if is_short then
        perform check_lines(lines);
        if not (allow_partial and is_any) then
            perform refuse_shortage(offers);
        end if;
    end if;
end
$$;
