-- What pages say of products: those with the words of a pattern in name, id, description or
-- category, of one category, after another product, in the order of names.
select id, name, description, category, requires_assembly, has_variants, max_per_order
  from products
 where status <> 'draft'
   and (cast(:category as text) is null or category = :category)
   and (cast(:pattern as text) is null
        or concat_ws(' ', id, name, category, description) ilike :pattern)
   and (cast(:after as text) is null
        or (name, id) > (select a.name, a.id from products a where a.id = :after))
 order by name, id
 limit :most
