-- least_max(of_product, of_variant): the smallest max_quantity that change_max takes: what is sold
-- and reserved, of the variant, and of the product where its max is the sum of its variants'.
-- Wants product and variant locked. Locks nothing more.
create or replace function least_max(of_product text, of_variant text) returns bigint
language plpgsql
set search_path from current
as $$
declare
    product products;
    variant variants;
    others  bigint;
    is_sum  boolean;
begin
    select * into product from products where id = of_product;
    if of_variant is null then
        return product.sold_quantity::bigint + product.reserved_quantity;
    end if;
    select * into variant from variants where id = of_variant;
    select coalesce(sum(max_quantity), 0), bool_and(max_quantity is not null) is not false
      into others, is_sum
      from variants where product_id = of_product and id <> of_variant;
    is_sum := is_sum and others + variant.max_quantity = product.max_quantity;
    return greatest(variant.sold_quantity::bigint + variant.reserved_quantity,
                    case when is_sum
                         then product.sold_quantity::bigint + product.reserved_quantity - others
                    end);
end
$$;
