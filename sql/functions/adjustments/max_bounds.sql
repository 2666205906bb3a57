-- max_bounds(of_product, of_variant): the smallest and the largest max_quantity that change_max accepts.
-- The smallest covers all units that are sold and reserved, of the variant and, if the product's max is
-- the sum of its variants', of the product. The largest is the largest integer, minus the max of the
-- other variants in that case.
-- The caller has locked the product and the variant. Locks: nothing more.
create or replace function max_bounds(
    of_product text, of_variant text, out lowest bigint, out highest bigint
)
language plpgsql
set search_path from current
as $$
declare
    product products;
    variant variants;
    others  bigint;
begin
    highest := 2147483647;
    select * into product from products where id = of_product;
    lowest := product.sold_quantity::bigint + product.reserved_quantity;
    if of_variant is null then
        return;
    end if;
    select * into variant from variants where id = of_variant;
    -- NULL if another variant is unlimited, 0 if there is no other variant.
    select case when bool_and(max_quantity is not null) is not false
                then coalesce(sum(max_quantity), 0) end
      into others
      from variants where product_id = of_product and id <> of_variant;
    if others + variant.max_quantity = product.max_quantity then  -- the product's max is their sum
        highest := highest - others;
        lowest := greatest(lowest - others,
                           variant.sold_quantity::bigint + variant.reserved_quantity);
    else
        lowest := variant.sold_quantity::bigint + variant.reserved_quantity;
    end if;
end
$$;
