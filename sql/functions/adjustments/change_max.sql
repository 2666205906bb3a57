-- change_max(of_product, of_variant, new_max): a row's max_quantity (NULL: unlimited). A product
-- whose max is the sum of its variants' goes on being that sum (follow_variants).
-- Wants product and variant locked. Locks nothing more.
-- Raises: SS003 if more is sold and reserved than would be left, SS001 past the largest integer.
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
        raise exception 'more is sold and reserved than that'
            using errcode = 'SS003',
                  detail = jsonb_build_object('lines', jsonb_build_array(jsonb_build_object(
                      'productId', of_product, 'variantId', of_variant,
                      'requested', case when of_variant is null then product.max_quantity
                                        else variant.max_quantity end - new_max,
                      'available', case when of_variant is null then product.available_quantity
                                        else least(variant.available_quantity,
                                                   product.available_quantity) end)));
    elsif new_max > highest then
        perform refuse_field('change', 'so small that there are at most 2147483647 units');
    end if;
    if of_variant is null then
        update products set max_quantity = new_max where id = of_product;
    else
        update variants set max_quantity = new_max where id = of_variant;
    end if;
end
$$;
