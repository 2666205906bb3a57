-- begin_adjustment(of_product, of_variant, why, remark, expected_version): the first step of every change
-- by hand, after begin_change. It locks the row, checks the expected version, and sets the reason and the
-- note that the log records.
-- Locks: the product, then the variant.
-- Raises: SS001 if the reason is not on the list, or is `other` without a note; SS002 for an unknown
-- product or variant; SS013, with the row as it is now, if the product has another version.
create or replace function begin_adjustment(
    of_product text, of_variant text, why text, remark text, expected_version bigint
) returns void
language plpgsql
set search_path from current
as $$
declare
    now_version bigint;
begin
    if coalesce(why not in ('correction', 'count', 'received', 'return', 'damaged',
                            'theft_or_loss', 'promotion', 'other'), true) then
        perform refuse_field('reason', 'one of correction, count, received, return, damaged,'
                                       ' theft_or_loss, promotion, other');
    elsif why = 'other' and coalesce(remark, '') !~ '\S' then
        perform refuse_field('note', 'given if the reason is other');
    end if;
    select version into now_version from products where id = of_product for no key update;
    if not found then
        raise exception 'there is no product %', of_product
            using errcode = 'SS002', detail = jsonb_build_object('productId', of_product);
    end if;
    if of_variant is not null then
        perform from variants where id = of_variant and product_id = of_product for no key update;
        if not found then
            raise exception 'there is no variant %', of_variant
                using errcode = 'SS002',
                      detail = jsonb_build_object('productId', of_product,
                                                  'variantId', of_variant);
        end if;
    end if;
    if now_version <> expected_version then
        raise exception 'the product has changed: its version is %, not %',
            now_version, expected_version
            using errcode = 'SS013', detail = stock_row(of_product, of_variant);
    end if;
    perform set_config('stream_server.reason', why, true);
    perform set_config('stream_server.note', coalesce(remark, ''), true);
end
$$;
