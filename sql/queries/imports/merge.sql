-- The new state of each row: the value of the file, or else of the existing row, or else the default.
drop table if exists pg_temp.merged_products, pg_temp.merged_variants;

create temporary table merged_products on commit drop as
select s.row, s.id, old.id is null as is_new, s.max_quantity_given,
       coalesce(old.reserved_quantity, 0) as reserved_quantity,
       coalesce(old.sold_quantity, 0) as sold_before, new.*,
       old.id is not null
       and (old.name, old.description, old.category, old.base_price, old.status,
            old.requires_assembly, old.max_quantity, old.sold_quantity,
            old.low_stock_threshold, old.max_per_order)
           is distinct from
           (new.name, new.description, new.category, new.base_price, new.status,
            new.requires_assembly, new.max_quantity, new.sold_quantity,
            new.low_stock_threshold, new.max_per_order) as differs
  from pg_temp.staged_products s
  left join products old on old.id = s.id
 cross join lateral (
       select coalesce(s.name, old.name) as name,
              coalesce(s.description, old.description, '') as description,
              coalesce(s.category, old.category, '') as category,
              coalesce(s.base_price, old.base_price) as base_price,
              coalesce(s.status, old.status, 'active') as status,
              coalesce(s.requires_assembly, old.requires_assembly, false) as requires_assembly,
              case when s.max_quantity_given then s.max_quantity else old.max_quantity end
                  as max_quantity,
              coalesce(s.sold_quantity, old.sold_quantity, 0) as sold_quantity,
              coalesce(s.low_stock_threshold, old.low_stock_threshold, 10)
                  as low_stock_threshold,
              case when s.max_per_order_given then s.max_per_order else old.max_per_order end
                  as max_per_order) new;

create temporary table merged_variants on commit drop as
select s.row, s.part, s.id, s.product_id, old.product_id as old_product_id,
       old.id is null as is_new, s.max_quantity_given,
       coalesce(given.product_max, false) as product_max_given,
       coalesce(old.reserved_quantity, 0) as reserved_quantity,
       coalesce(old.sold_quantity, 0) as sold_before, new.*,
       old.id is not null
       and (old.variant_value, old.sku, old.price, old.status, old.max_quantity,
            old.sold_quantity, old.low_stock_threshold)
           is distinct from
           (new.variant_value, new.sku, new.price, new.status, new.max_quantity,
            new.sold_quantity, new.low_stock_threshold) as differs
  from pg_temp.staged_variants s
  left join variants old on old.id = s.id
  left join (select id, bool_or(max_quantity_given) as product_max
               from pg_temp.staged_products group by id) given on given.id = s.product_id
 cross join lateral (
       select coalesce(s.variant_value, old.variant_value) as variant_value,
              coalesce(s.sku, old.sku, '') as sku,
              case when s.price_given then s.price else old.price end as price,
              coalesce(s.status, old.status, 'active') as status,
              case when s.max_quantity_given then s.max_quantity else old.max_quantity end
                  as max_quantity,
              coalesce(s.sold_quantity, old.sold_quantity, 0) as sold_quantity,
              coalesce(s.low_stock_threshold, old.low_stock_threshold, 10)
                  as low_stock_threshold) new;

analyze pg_temp.merged_products, pg_temp.merged_variants;
