-- change_threshold(of_product, of_variant, new_threshold, why, remark, expected_version, actor): sets the
-- number of units at or below which the stock of a product or a variant is low. Returns the row as JSON.
-- Locks: the product, then the variant.
-- Raises: as begin_adjustment; SS001 for a negative threshold.
create or replace function change_threshold(
    of_product       text,
    of_variant       text,
    new_threshold    integer,
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
    if coalesce(new_threshold < 0, true) then
        perform refuse_field('lowStockThreshold', 'a whole number from 0');
    end if;
    before := begin_change('threshold', actor);
    perform begin_adjustment(of_product, of_variant, why, remark, expected_version);
    if of_variant is null then
        update products set low_stock_threshold = new_threshold where id = of_product;
    else
        update variants set low_stock_threshold = new_threshold where id = of_variant;
    end if;
    perform end_change(before);
    return stock_row(of_product, of_variant);
end
$$;
