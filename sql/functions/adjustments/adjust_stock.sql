-- adjust_stock(of_product, of_variant, change, why, remark, expected_version, actor): adds `change` units
-- to the stock, or removes units if `change` is negative, for a reason. Returns the row as JSON.
--
--     select adjust_stock('Unit-8x8x8', 'Unit-8x8x8-oak', -2, 'damaged', 'water');
--
-- Locks: the product, then the variant.
-- Raises: as begin_adjustment; SS003 if fewer units are available than are removed; SS001 if `change` is
-- 0, or the stock is unlimited.
create or replace function adjust_stock(
    of_product       text,
    of_variant       text,
    change           integer,
    why              text,
    remark           text default null,
    expected_version bigint default null,
    actor            text default null
) returns jsonb
language plpgsql
security definer
set search_path from current
as $$
declare
    before  text[];
    now_max bigint;
begin
    if coalesce(change, 0) = 0 then
        perform refuse_field('change', 'a whole number, not 0');
    end if;
    before := begin_change('adjust', actor);
    perform begin_adjustment(of_product, of_variant, why, remark, expected_version);
    if of_variant is null then
        select max_quantity into now_max from products where id = of_product;
    else
        select max_quantity into now_max from variants where id = of_variant;
    end if;
    if now_max is null then
        perform refuse_field('change', 'a change of limited stock; this stock is unlimited');
    end if;
    perform change_max(of_product, of_variant, now_max + change);
    perform end_change(before);
    return stock_row(of_product, of_variant);
end
$$;
