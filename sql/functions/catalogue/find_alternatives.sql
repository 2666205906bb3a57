-- find_alternatives(wanted, most): for each of these products, at most `most` others that can be bought:
-- those of the same category first, then those nearest in price. It reads the ten nearest products above
-- and below the price, in the category and in the catalogue, so the size of the catalogue does not matter.
-- Locks: none.
create or replace function find_alternatives(wanted text[], most integer)
returns table (instead_of text, id text)
language plpgsql stable
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
    return query
    select w.id, other.id
      from products w
     cross join lateral (
        select near.id
          from ((select p.id, p.base_price, p.has_variants, 0 as elsewhere from products p
                  where p.is_available and p.category = w.category
                    and p.base_price >= w.base_price
                  order by p.base_price, p.id limit 10)
                union all
                (select p.id, p.base_price, p.has_variants, 0 from products p
                  where p.is_available and p.category = w.category
                    and p.base_price < w.base_price
                  order by p.base_price desc, p.id desc limit 10)
                union all
                (select p.id, p.base_price, p.has_variants, 1 from products p
                  where p.is_available and p.base_price >= w.base_price
                  order by p.base_price, p.id limit 10)
                union all
                (select p.id, p.base_price, p.has_variants, 1 from products p
                  where p.is_available and p.base_price < w.base_price
                  order by p.base_price desc, p.id desc limit 10)) near
         where near.id <> w.id
           and (not near.has_variants
                or exists (select from variants v
                            where v.product_id = near.id and v.is_available))
         group by near.id, near.base_price
         order by min(near.elsewhere), abs(near.base_price - w.base_price), near.id
         limit most) other
     where w.id = any (wanted) and w.status <> 'draft';
end
$$;
