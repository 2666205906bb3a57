-- change_status(of_product, of_variant, new_status, why, remark, expected_version, actor): sets the
-- status of a product or a variant: draft, active or discontinued. Returns the row as JSON.
-- Locks: the product, then the variant.
-- Raises: as begin_adjustment; SS001 for another status.
create or replace function change_status(
    of_product       text,
    of_variant       text,
    new_status       text,
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
    if coalesce(new_status not in ('active', 'draft', 'discontinued'), true) then
        perform refuse_field('status', 'one of active, draft, discontinued');
    end if;
    before := begin_change('status', actor);
    perform begin_adjustment(of_product, of_variant, why, remark, expected_version);
    if of_variant is null then
        update products set status = new_status where id = of_product;
    else
        update variants set status = new_status where id = of_variant;
    end if;
    perform end_change(before);
    return stock_row(of_product, of_variant);
end
$$;
