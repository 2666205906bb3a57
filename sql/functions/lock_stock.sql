-- lock_stock(lines): locks the rows that the lines name, so that what is read next stays true.
-- Locks: products in the order of ids, then variants in the order of ids (FOR NO KEY UPDATE). The
-- plan of each query is LockRows over Sort or an ordered index scan, and ids never change, so rows
-- are locked in that order.
create or replace function lock_stock(lines stock_line[]) returns void
language plpgsql as $$
begin
    perform from products
      where id = any (array(select product_id from unnest(lines)))
      order by id
        for no key update;
    if exists (select from unnest(lines) where variant_id is not null) then
        perform from variants
          where id = any (array(select variant_id from unnest(lines)))
          order by id
            for no key update;
    end if;
end
$$;
