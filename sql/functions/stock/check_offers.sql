-- check_offers(lines, offers, allow_partial): checks that the offers (of offer_stock, strictly) grant all
-- units of these lines, or with `allow_partial` at least one.
-- Locks: none.
-- Raises: as check_lines; SS003 for too little stock.
create or replace function check_offers(
    lines stock_line[], offers stock_offer[], allow_partial boolean
)
returns void
language plpgsql
set search_path from current
as $$
begin
    if is_short(offers) then
        perform check_lines(lines);
        if not (allow_partial and exists (select from unnest(offers) where granted > 0)) then
            perform refuse_shortage(offers);
        end if;
    end if;
end
$$;
