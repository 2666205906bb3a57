-- What is wrong with the rows of an import, as far as only the database can tell, in the order of
-- the file; the first $1 of them, each with the number of all. `part` NULL: the row's product.
--   repeated         an id that an earlier row or part has (other_row, other_part)
--   missing          a new row lacks what the column must hold
--   moved            a variant of another product (other)
--   unknown_product  a variant of a product that is neither in the file nor in the database
--   oversold         max_quantity is below sold + reserved
with mistakes as (
    select row, null::integer as part, 'repeated' as kind, 'id' as column_name, id,
           first_row as other_row, null::integer as other_part, null as other,
           null::integer as most, null::integer as sold, null::integer as reserved
      from (select row, id, first_value(row) over (partition by id order by row) as first_row
              from staged_products) s
     where row <> first_row
    union all
    select row, part, 'repeated', 'id', id, first_row, first_part, null, null, null, null
      from (select row, part, id,
                   first_value(row) over earlier as first_row,
                   first_value(part) over earlier as first_part
              from staged_variants
            window earlier as (partition by id order by row, part)) s
     where (row, part) <> (first_row, first_part)
    union all
    select row, null, 'missing', missing.name, id, null, null, null, null, null, null
      from merged_products m
     cross join lateral (values ('name', m.name is null), ('base_price', m.base_price is null))
           missing (name, is_so)
     where is_new and missing.is_so
    union all
    select row, part, 'missing', 'variant_value', id, null, null, null, null, null, null
      from merged_variants
     where is_new and variant_value is null
    union all
    select row, part, 'moved', 'id', id, null, null, old_product_id, null, null, null
      from merged_variants
     where old_product_id <> product_id
    union all
    select row, part, 'unknown_product', 'product_id', id, null, null, product_id,
           null, null, null
      from merged_variants m
     where product_id is not null
       and not exists (select from products p where p.id = m.product_id)
       and not exists (select from staged_products s where s.id = m.product_id)
    union all
    select row, null, 'oversold',
           case when max_quantity_given then 'max_quantity' else 'sold_quantity' end, id,
           null, null, null, max_quantity, sold_quantity, reserved_quantity
      from merged_products
     where sold_quantity::bigint + reserved_quantity > max_quantity
    union all
    select row, part, 'oversold',
           case when max_quantity_given then 'max_quantity' else 'sold_quantity' end, id,
           null, null, null, max_quantity, sold_quantity, reserved_quantity
      from merged_variants
     where sold_quantity::bigint + reserved_quantity > max_quantity
)
select *, count(*) over () as all_of_them
  from mistakes
 order by row, part nulls first, column_name desc
 limit $1
