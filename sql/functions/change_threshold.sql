-- change_threshold(of_product, of_variant, new_threshold, why, remark, expected_version, actor):
-- the number of units at and below which a product's or variant's stock is low. Gives the row as JSON.
-- Locks: the product, then the variant.
-- Raises: as begin_adjustment; SS001 for a negative one.
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
set stream_server.operation = 'threshold'
set stream_server.reason = ''
set stream_server.note = ''
as $$
declare
    before text := current_setting('stream_server.actor', true);
begin
    if coalesce(new_threshold < 0, true) then
        perform refuse_field('lowStockThreshold', 'a whole number from 0');
    end if;
    perform begin_adjustment(of_product, of_variant, why, remark, expected_version, actor);
    if of_variant is null then
        update products set low_stock_threshold = new_threshold where id = of_product;
    else
        update variants set low_stock_threshold = new_threshold where id = of_variant;
    end if;
    perform set_config('stream_server.actor', coalesce(before, ''), true);
    return stock_row(of_product, of_variant);
end
$$;
