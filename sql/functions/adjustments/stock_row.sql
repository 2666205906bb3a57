-- stock_row(of_product, of_variant): the row of a product (of_variant NULL) or of a variant, as the admin
-- API returns it. `version` is the product's, which is the version to expect in the next change.
create or replace function stock_row(of_product text, of_variant text) returns jsonb
language sql stable
set search_path from current
as $$
    select jsonb_build_object(
               'productId', p.id, 'variantId', v.id,
               'name', case when v.id is null then p.name else v.variant_value end,
               'status', case when v.id is null then p.status else v.status end,
               'price', case when v.id is null then p.base_price else v.price end,
               'maxQuantity', case when v.id is null then p.max_quantity else v.max_quantity end,
               'soldQuantity', case when v.id is null then p.sold_quantity
                                    else v.sold_quantity end,
               'reservedQuantity', case when v.id is null then p.reserved_quantity
                                        else v.reserved_quantity end,
               'availableQuantity', case when v.id is null then p.available_quantity
                                         else v.available_quantity end,
               'lowStockThreshold', case when v.id is null then p.low_stock_threshold
                                         else v.low_stock_threshold end,
               'version', p.version, 'updatedAt', wire_time(p.updated_at))
      from products p
      left join variants v on v.product_id = p.id and v.id = of_variant
     where p.id = of_product
$$;
