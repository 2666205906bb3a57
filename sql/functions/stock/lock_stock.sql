-- lock_stock(lines): locks the rows of the lines, so that the values that the caller reads next stay true.
-- Locks: products in the order of ids, then variants in the order of ids (FOR NO KEY UPDATE). The plan of
-- each query is LockRows over Sort or over an ordered index scan, and ids never change, so the rows are
-- locked in that order.
create or replace function lock_stock(lines stock_line[]) returns void
language plpgsql
set search_path from current
as $$
declare
    line     stock_line;
    products text[] := '{}';
    variants text[] := '{}';
begin
    foreach line in array lines loop
        products := products || line.product_id;
        if line.variant_id is not null then
            variants := variants || line.variant_id;
        end if;
    end loop;
    perform from products p where p.id = any (products) order by p.id for no key update;
    if variants <> '{}' then
        perform from variants v where v.id = any (variants) order by v.id for no key update;
    end if;
end
$$;
