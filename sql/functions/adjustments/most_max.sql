-- most_max(of_product, of_variant): the largest max_quantity that change_max takes: the largest
-- integer, less the other variants' where the product's max is the sum of all.
-- Wants product and variant locked. Locks nothing more.
create or replace function most_max(of_product text, of_variant text) returns bigint
language plpgsql
set search_path from current
as $$
declare
    most    constant bigint := 2147483647;
    product products;
    variant variants;
    others  bigint;
    is_sum  boolean;
begin
    if of_variant is null then
        return most;
    end if;
    select * into product from products where id = of_product;
    select * into variant from variants where id = of_variant;
    select coalesce(sum(max_quantity), 0), bool_and(max_quantity is not null) is not false
      into others, is_sum
      from variants where product_id = of_product and id <> of_variant;
    is_sum := is_sum and others + variant.max_quantity = product.max_quantity;
    return case when is_sum then most - others else most end;
end
$$;
