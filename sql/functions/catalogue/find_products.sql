-- find_products(words, in_category, after_id, most): the columns that pages show of products, without
-- drafts: of products with all these words (a tsquery, as text; NULL: any product) and of one category
-- (NULL: any), after another product, in the order of names. If more than 1,000 products have the words,
-- only 1,000 of them are found. Each case is a separate statement, so that one index serves it.
-- Locks: none.
create or replace function find_products(
    words text, in_category text, after_id text, most integer
)
returns table (id text, name text, description text, category text, requires_assembly boolean,
               has_variants boolean, max_per_order integer)
language plpgsql stable
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    after_name text := '';
    found_ids  text[];
begin
    if after_id is not null then
        select left(p.name, 100) into after_name from products p where p.id = after_id;
        if not found then
            return;
        end if;
    end if;
    if words is not null then
        found_ids := array(
            select p.id from products p
             where to_tsvector('simple'::regconfig,
                       translate(p.id || ' ' || p.name || ' ' || p.category || ' '
                                 || left(p.description, 5000), '-_./@:<>&+~', '           '))
                   @@ to_tsquery('simple'::regconfig, words)
               and p.status <> 'draft' and (in_category is null or p.category = in_category)
             limit 1000);
        return query
            select p.id, p.name, p.description, p.category, p.requires_assembly, p.has_variants,
                   p.max_per_order
              from products p
             where p.id = any (found_ids)
               and (left(p.name, 100), p.id) > (after_name, coalesce(after_id, ''))
             order by left(p.name, 100), p.id
             limit most;
    elsif in_category is not null then
        return query
            select p.id, p.name, p.description, p.category, p.requires_assembly, p.has_variants,
                   p.max_per_order
              from products p
             where p.status <> 'draft' and p.category = in_category
               and (left(p.name, 100), p.id) > (after_name, coalesce(after_id, ''))
             order by left(p.name, 100), p.id
             limit most;
    else
        return query
            select p.id, p.name, p.description, p.category, p.requires_assembly, p.has_variants,
                   p.max_per_order
              from products p
             where p.status <> 'draft'
               and (left(p.name, 100), p.id) > (after_name, coalesce(after_id, ''))
             order by left(p.name, 100), p.id
             limit most;
    end if;
end
$$;
