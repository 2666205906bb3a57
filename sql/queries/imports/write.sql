-- Writes rows that are new or have changed: products before their variants, each in the order of ids.
-- Raises: 40001 if another transaction has just added one of the rows. The import then has to be merged
-- again, with that row.
do $$
declare
    is_given boolean;
    written bigint;
    inserted bigint := 0;
    raced boolean := false;
begin
    insert into products (id, name, description, category, base_price, status, requires_assembly,
                          max_quantity, sold_quantity, low_stock_threshold, max_per_order)
    select id, name, description, category, base_price, status, requires_assembly,
           max_quantity, sold_quantity, low_stock_threshold, max_per_order
      from pg_temp.merged_products where is_new
     order by id
        on conflict (id) do nothing;
    get diagnostics written = row_count;
    raced := raced or written <> (select count(*) from pg_temp.merged_products where is_new);

    -- If the file gives a product's max_quantity, that value stays, whatever the sum of its variants'
    -- is; the max of any other product follows its variants (follow_variants).
    foreach is_given in array array[true, false] loop
        perform set_config('stream_server.keep_product_max',
                           case when is_given then 'on' else '' end, true);
        insert into variants (id, product_id, variant_value, sku, price, status, max_quantity,
                              sold_quantity, low_stock_threshold)
        select m.id, product_id, variant_value, sku, price, status, max_quantity,
               sold_quantity, low_stock_threshold
          from pg_temp.merged_variants m
         where is_new and product_max_given = is_given
         order by product_id, m.id
            on conflict (id) do nothing;
        get diagnostics written = row_count;
        inserted := inserted + written;
    end loop;
    raced := raced or inserted <> (select count(*) from pg_temp.merged_variants where is_new);

    if raced then
        raise exception 'another transaction has added rows of this import'
            using errcode = 'serialization_failure';
    end if;
end
$$;

update products p
   set name = m.name, description = m.description, category = m.category,
       base_price = m.base_price, status = m.status, requires_assembly = m.requires_assembly,
       max_quantity = case when m.max_quantity_given then m.max_quantity else p.max_quantity end,
       sold_quantity = m.sold_quantity,
       low_stock_threshold = m.low_stock_threshold, max_per_order = m.max_per_order
  from pg_temp.merged_products m
 where m.id = p.id and m.differs;

do $$
declare
    is_given boolean;
begin
    foreach is_given in array array[true, false] loop
        perform set_config('stream_server.keep_product_max',
                           case when is_given then 'on' else '' end, true);
        update variants v
           set variant_value = m.variant_value, sku = m.sku, price = m.price, status = m.status,
               max_quantity = m.max_quantity, sold_quantity = m.sold_quantity,
               low_stock_threshold = m.low_stock_threshold
          from pg_temp.merged_variants m
         where m.id = v.id and m.differs and m.product_max_given = is_given;
    end loop;
end
$$;
