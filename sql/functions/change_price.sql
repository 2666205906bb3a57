-- change_price(of_product, of_variant, new_price, why, remark, expected_version, actor): the price
-- in cents of a product or a variant; a variant without one (NULL) has its product's. Gives the row
-- as JSON.
-- Locks: the product, then the variant.
-- Raises: as begin_adjustment; SS001 for a negative price, or none of a product.
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
set stream_server.operation = 'price'
set stream_server.reason = ''
set stream_server.note = ''
as $$
declare
    before text := current_setting('stream_server.actor', true);
begin
    if new_price < 0 or (new_price is null and of_variant is null) then
        perform refuse_field('price', 'a whole number of cents from 0');
    end if;
    perform begin_adjustment(of_product, of_variant, why, remark, expected_version, actor);
    if of_variant is null then
        update products set base_price = new_price where id = of_product;
    else
        update variants set price = new_price where id = of_variant;
    end if;
    perform set_config('stream_server.actor', coalesce(before, ''), true);
    return stock_row(of_product, of_variant);
end
$$;
