-- The mistakes in an import that only the database can find, in the order of the file: the first $1 of
-- them, each with the number of all. `part` is NULL if the mistake is in the row's product.
--   repeated         an earlier row or part has the same id (other_row, other_part)
--   unseen           the id of a new row has an invisible character (other)
--   lookalike        the id of a new row looks like another id (other): of an existing row, or of an
--                    earlier row of the file (other_row, other_part)
--   missing          a new row has no value for a required column
--   moved            the variant belongs to another product (other)
--   unknown_product  the variant's product is neither in the file nor in the database
--   oversold         max_quantity (bound) is below sold + reserved
--   undersold        sold_quantity is below the units of the row that orders have (bound)
--   unequal          a product's sold_quantity is below the sum of its variants' (bound); or a variant's
--                    is above what the sold_quantity of its product, which is not in the file, leaves for
--                    it (bound)
--   below_sales      a variant's max_quantity makes the max of its product (other), which is the sum of
--                    the variants', less than the units sold and reserved of the product. `sold` is the
--                    value of the file, `bound` the smallest value that fits, `reserved` the units sold
--                    and reserved of the product
-- `undersold` and `unequal` check only rows that the import changes: if it does not change sold_quantity,
-- no order is read.
with resold_products as materialized (
    select row, id, sold_quantity
      from pg_temp.merged_products
     where not is_new and sold_quantity <> sold_before
), resold_variants as materialized (
    select row, part, id, product_id, sold_quantity
      from pg_temp.merged_variants
     where sold_quantity <> sold_before and product_id = coalesce(old_product_id, product_id)
), resold as materialized (
    select id as product_id from resold_products
    union
    select product_id from resold_variants
), filled as materialized (
    select product_id, variant_id, sum(filled_quantity) as units
      from order_lines
     where filled_quantity > 0 and product_id in (select product_id from resold)
     group by product_id, variant_id
), sold_of_variants as materialized (
    select product_id, sum(sold_quantity) as units
      from (select v.product_id, v.sold_quantity
              from variants v
             where v.product_id in (select product_id from resold)
               and not exists (select from pg_temp.staged_variants s where s.id = v.id)
            union all
            (select distinct on (id) product_id, sold_quantity
               from pg_temp.merged_variants
              where product_id in (select product_id from resold)
              order by id, row, part)) v
     group by product_id
), looks as materialized (
    select distinct is_variant, id, skeleton, unseen from pg_temp.staged_looks
), alike as materialized (
    select is_variant, id, skeleton from looks
    union
    select is_variant, skeleton, skeleton from looks
), added as materialized (
    select false as is_variant, m.row, null::integer as part, m.id, l.unseen,
           coalesce(l.skeleton, m.id) as skeleton
      from pg_temp.merged_products m left join looks l on l.id = m.id and not l.is_variant
     where m.is_new and exists (select from looks)
    union all
    select true, m.row, m.part, m.id, l.unseen, coalesce(l.skeleton, m.id)
      from pg_temp.merged_variants m left join looks l on l.id = m.id and l.is_variant
     where m.is_new and exists (select from looks)
), lookalikes as (
    select distinct on (n.is_variant, n.row, n.part)
           n.row, n.part, n.id, f.row as other_row, f.part as other_part, a.id as other
      from added n
      join alike a on a.is_variant = n.is_variant and a.skeleton = n.skeleton and a.id <> n.id
      left join added f
        on f.is_variant = a.is_variant and f.id = a.id
       and (f.row, coalesce(f.part, 0)) < (n.row, coalesce(n.part, 0))
     where n.unseen is null
       and (f.row is not null
            or not n.is_variant and exists (select from products p where p.id = a.id)
            or n.is_variant and exists (select from variants v where v.id = a.id))
     order by n.is_variant, n.row, n.part, f.row, f.part
), following as materialized (
    select p.id, coalesce(m.sold_quantity, p.sold_quantity)::bigint + p.reserved_quantity as taken
      from products p
      left join pg_temp.merged_products m on m.id = p.id
     where p.id in (select product_id from pg_temp.merged_variants where max_quantity_given)
       and m.max_quantity_given is not true
       and p.max_quantity = (select case when bool_and(v.max_quantity is not null)
                                         then sum(v.max_quantity) end
                               from variants v where v.product_id = p.id)
), sums as materialized (
    select product_id, case when bool_and(max_quantity is not null) then sum(max_quantity) end as units
      from (select v.product_id, v.max_quantity
              from variants v
             where v.product_id in (select id from following)
               and not exists (select from pg_temp.staged_variants s where s.id = v.id)
            union all
            (select distinct on (id) product_id, max_quantity
               from pg_temp.merged_variants
              where product_id in (select id from following)
              order by id, row, part)) v
     group by product_id
), mistakes as (
    select row, null::integer as part, 'repeated' as kind, 'id' as column_name, id,
           first_row as other_row, null::integer as other_part, null as other,
           null::bigint as bound, null::integer as sold, null::integer as reserved
      from (select row, id, first_value(row) over (partition by id order by row) as first_row
              from pg_temp.staged_products) s
     where row <> first_row
    union all
    select row, part, 'repeated', 'id', id, first_row, first_part, null, null, null, null
      from (select row, part, id,
                   first_value(row) over earlier as first_row,
                   first_value(part) over earlier as first_part
              from pg_temp.staged_variants
            window earlier as (partition by id order by row, part)) s
     where (row, part) <> (first_row, first_part)
    union all
    select row, part, 'unseen', 'id', id, null, null, unseen, null, null, null
      from added
     where unseen is not null
    union all
    select row, part, 'lookalike', 'id', id, other_row, other_part, other, null, null, null
      from lookalikes
    union all
    select row, null, 'missing', missing.name, id, null, null, null, null, null, null
      from pg_temp.merged_products m
     cross join lateral (values ('name', m.name is null), ('base_price', m.base_price is null))
           missing (name, is_so)
     where is_new and missing.is_so
    union all
    select row, part, 'missing', 'variant_value', id, null, null, null, null, null, null
      from pg_temp.merged_variants
     where is_new and variant_value is null
    union all
    select row, part, 'moved', 'id', id, null, null, old_product_id, null, null, null
      from pg_temp.merged_variants
     where old_product_id <> product_id
    union all
    select row, part, 'unknown_product', 'product_id', id, null, null, product_id,
           null, null, null
      from pg_temp.merged_variants m
     where product_id is not null
       and not exists (select from products p where p.id = m.product_id)
       and not exists (select from pg_temp.staged_products s where s.id = m.product_id)
    union all
    select row, null, 'oversold',
           case when max_quantity_given then 'max_quantity' else 'sold_quantity' end, id,
           null, null, null, max_quantity, sold_quantity, reserved_quantity
      from pg_temp.merged_products
     where sold_quantity::bigint + reserved_quantity > max_quantity
    union all
    select row, part, 'oversold',
           case when max_quantity_given then 'max_quantity' else 'sold_quantity' end, id,
           null, null, null, max_quantity, sold_quantity, reserved_quantity
      from pg_temp.merged_variants
     where sold_quantity::bigint + reserved_quantity > max_quantity
    union all
    select p.row, null, 'undersold', 'sold_quantity', p.id, null, null, null,
           f.units, p.sold_quantity, null
      from resold_products p
      join (select product_id, sum(units)::bigint as units from filled group by product_id) f
        on f.product_id = p.id
     where p.sold_quantity < f.units
    union all
    select v.row, v.part, 'undersold', 'sold_quantity', v.id, null, null, null,
           f.units, v.sold_quantity, null
      from resold_variants v
      join filled f on f.variant_id = v.id
     where v.sold_quantity < f.units
    union all
    select m.row, null, 'unequal', 'sold_quantity', m.id, null, null, null,
           s.units, m.sold_quantity, null
      from sold_of_variants s
      join pg_temp.merged_products m on m.id = s.product_id
     where m.sold_quantity < s.units
    union all
    (select distinct on (p.id)
            v.row, v.part, 'unequal', 'sold_quantity', v.id, null, null, p.id,
            greatest(0, v.sold_quantity + p.sold_quantity - s.units), v.sold_quantity, null
       from sold_of_variants s
       join products p on p.id = s.product_id
       join resold_variants v on v.product_id = p.id
      where p.sold_quantity < s.units
        and not exists (select from pg_temp.staged_products named where named.id = p.id)
      order by p.id, v.row desc, v.part desc)
    union all
    (select distinct on (f.id)
            v.row, v.part, 'below_sales', 'max_quantity', v.id, null, null, f.id,
            (v.max_quantity + f.taken - s.units)::bigint, v.max_quantity, f.taken::integer
       from following f
       join sums s on s.product_id = f.id
       join pg_temp.merged_variants v on v.product_id = f.id and v.max_quantity_given
      where s.units < f.taken
      order by f.id, v.row desc, v.part desc)
)
select *, count(*) over () as all_of_them
  from mistakes
 order by row, part nulls first, column_name desc
 limit $1
