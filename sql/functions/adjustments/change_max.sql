-- change_max(of_product, of_variant, new_max): sets a row's max_quantity (NULL: unlimited). If a
-- product's max is the sum of its variants', it stays that sum (follow_variants).
-- The caller has locked the product and the variant. Locks: nothing more.
-- Raises: SS003 if more units are sold and reserved than would be left; SS001 above the largest integer.
create or replace function change_max(of_product text, of_variant text, new_max bigint)
returns void
language plpgsql
set search_path from current
as $$
declare
    product  products;
    variant  variants;
    lowest   bigint;
    highest  bigint;
begin
    select * into lowest, highest from max_bounds(of_product, of_variant);
    if new_max < lowest then
        select * into product from products where id = of_product;
        select * into variant from variants where id = of_variant;
        raise exception 'more units are sold and reserved than would be left'
            using errcode = 'SS003',
                  detail = jsonb_build_object('lines', jsonb_build_array(jsonb_build_object(
                      'productId', of_product, 'variantId', of_variant,
                      'requested', case when of_variant is null then product.max_quantity
                                        else variant.max_quantity end - new_max,
                      'available', case when of_variant is null then product.available_quantity
                                        else least(variant.available_quantity,
                                                   product.available_quantity) end)));
    elsif new_max > highest then
        perform refuse_field('change', 'one that leaves at most 2147483647 units');
    end if;
    if of_variant is null then
        update products set max_quantity = new_max where id = of_product;
    else
        update variants set max_quantity = new_max where id = of_variant;
    end if;
end
$$;
