-- set_stock(of_product, of_variant, stock, why, remark, expected_version, actor): makes `stock` units
-- available (NULL: unlimited), however many are sold and reserved. Returns the row as JSON.
-- Locks: the product, then the variant.
-- Raises: as begin_adjustment; SS001 for a negative stock, and if the stock plus the units that are sold
-- and reserved exceeds the largest integer.
create or replace function set_stock(
    of_product       text,
    of_variant       text,
    stock            integer,
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
    taken  bigint;
    most   bigint;
begin
    if stock < 0 then
        perform refuse_field('stock', 'a whole number from 0, or null');
    end if;
    before := begin_change('adjust', actor);
    perform begin_adjustment(of_product, of_variant, why, remark, expected_version);
    if of_variant is null then
        select sold_quantity::bigint + reserved_quantity into taken
          from products where id = of_product;
    else
        select sold_quantity::bigint + reserved_quantity into taken
          from variants where id = of_variant;
    end if;
    select highest - taken into most from max_bounds(of_product, of_variant);
    if stock > most then
        perform refuse_field('stock', case when most < 0
                             then 'null: more is sold and reserved than any limit allows'
                             else 'at most ' || most end);
    end if;
    perform change_max(of_product, of_variant, stock + taken);
    perform end_change(before);
    return stock_row(of_product, of_variant);
end
$$;
