-- For each of some products, a few others that can be bought: of the same category first, then
-- those nearest in price.
select wanted.id as instead_of, other.id
  from products wanted
 cross join lateral (
    select p.id
      from products p
     where p.id <> all (cast(:ids as text[])) and p.is_available
       and (not p.has_variants
            or exists (select from variants v where v.product_id = p.id and v.is_available))
     order by p.category <> wanted.category, abs(p.base_price - wanted.base_price), p.id
     limit :most) other
 where wanted.id = any (cast(:ids as text[])) and wanted.status <> 'draft'
