-- change_price(of_product, of_variant, new_price, why, remark, expected_version, actor): sets the price
-- of a product or a variant, in cents. A variant whose price is NULL has its product's price. Returns the
-- row as JSON.
-- Locks: the product, then the variant.
-- Raises: as begin_adjustment; SS001 for a negative price, and for a product without a price.
create or replace function change_price(
    of_product       text,
    of_variant       text,
    new_price        integer,
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
    before text[];
begin
    if new_price < 0 or (new_price is null and of_variant is null) then
        perform refuse_field('price', 'a whole number of cents from 0');
    end if;
    before := begin_change('price', actor);
    perform begin_adjustment(of_product, of_variant, why, remark, expected_version);
    if of_variant is null then
        update products set base_price = new_price where id = of_product;
    else
        update variants set price = new_price where id = of_variant;
    end if;
    perform end_change(before);
    return stock_row(of_product, of_variant);
end
$$;
