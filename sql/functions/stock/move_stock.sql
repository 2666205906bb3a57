-- move_stock(moves): adds to the sold and reserved quantities of products and of their variants, with one
-- statement per table, so that the log gets its rows in one INSERT.
-- For unlimited stock, both quantities stop at the largest integer. A reserved quantity that has stopped
-- there is counted again when units are given back, so it is always the smaller of the largest integer and
-- the units that reservations hold.
-- The caller has locked the rows (lock_stock), and has written the reservations and their lines as they
-- will be. Locks: nothing more.
-- Raises: 23514 if a quantity would leave its bounds.
create or replace function move_stock(moves stock_move[]) returns void
language plpgsql
set search_path from current
as $$
declare
    move         stock_move;
    has_variants boolean := false;
begin
    foreach move in array moves loop
        has_variants := has_variants or move.variant_id is not null;
    end loop;
    if cardinality(moves) = 1 and not has_variants then
        update products p
           set sold_quantity = moved_quantity(p.sold_quantity, move.sold, p.max_quantity),
               reserved_quantity =
                   case when p.reserved_quantity = 2147483647 and move.reserved < 0
                        then held_units(p.id, null)
                        else moved_quantity(p.reserved_quantity, move.reserved, p.max_quantity) end
         where p.id = move.product_id;
        return;
    end if;
    update products p
       set sold_quantity = moved_quantity(p.sold_quantity, m.sold, p.max_quantity),
           reserved_quantity =
               case when p.reserved_quantity = 2147483647 and m.reserved < 0
                    then held_units(p.id, null)
                    else moved_quantity(p.reserved_quantity, m.reserved, p.max_quantity) end
      from (select product_id, sum(sold) as sold, sum(reserved) as reserved
              from unnest(moves) group by product_id) m
     where p.id = m.product_id and (m.sold <> 0 or m.reserved <> 0);
    if has_variants then
        update variants v
           set sold_quantity = moved_quantity(v.sold_quantity, m.sold, v.max_quantity),
               reserved_quantity =
                   case when v.reserved_quantity = 2147483647 and m.reserved < 0
                        then held_units(v.product_id, v.id)
                        else moved_quantity(v.reserved_quantity, m.reserved, v.max_quantity) end
          from (select variant_id, sum(sold) as sold, sum(reserved) as reserved
                  from unnest(moves) where variant_id is not null group by variant_id) m
         where v.id = m.variant_id and (m.sold <> 0 or m.reserved <> 0);
    end if;
end
$$;
