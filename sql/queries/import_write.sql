-- Writes what is new or differs: products before their variants, each in the order of ids.
-- Raises 40001 if another transaction has just added one of the rows: then all has to be merged
-- again, on top of it.
do $$
declare
    written bigint;
    raced boolean := false;
begin
    insert into products (id, name, description, category, base_price, status, requires_assembly,
                          max_quantity, sold_quantity, low_stock_threshold, max_per_order)
    select id, name, description, category, base_price, status, requires_assembly,
           max_quantity, sold_quantity, low_stock_threshold, max_per_order
      from merged_products where is_new
     order by id
        on conflict (id) do nothing;
    get diagnostics written = row_count;
    raced := raced or written <> (select count(*) from merged_products where is_new);

    insert into variants (id, product_id, variant_value, sku, price, status, max_quantity,
                          sold_quantity, low_stock_threshold)
    select id, product_id, variant_value, sku, price, status, max_quantity,
           sold_quantity, low_stock_threshold
      from merged_variants where is_new
     order by product_id, id
        on conflict (id) do nothing;
    get diagnostics written = row_count;
    raced := raced or written <> (select count(*) from merged_variants where is_new);

    if raced then
        raise exception 'another transaction has added rows of this import'
            using errcode = 'serialization_failure';
    end if;
end
$$;

update products p
   set name = m.name, description = m.description, category = m.category,
       base_price = m.base_price, status = m.status, requires_assembly = m.requires_assembly,
       max_quantity = m.max_quantity, sold_quantity = m.sold_quantity,
       low_stock_threshold = m.low_stock_threshold, max_per_order = m.max_per_order
  from merged_products m
 where m.id = p.id and m.differs;

update variants v
   set variant_value = m.variant_value, sku = m.sku, price = m.price, status = m.status,
       max_quantity = m.max_quantity, sold_quantity = m.sold_quantity,
       low_stock_threshold = m.low_stock_threshold
  from merged_variants m
 where m.id = v.id and m.differs;
