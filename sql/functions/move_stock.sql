-- move_stock(moves): adds to the sold and reserved quantities of products, and with them of their
-- variants: one statement a table, so that the log gets its rows in one insert.
-- Wants the rows locked (lock_stock); locks nothing more.
-- Raises: 23514 where a quantity would leave its bounds.
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
        update products
           set sold_quantity = sold_quantity + move.sold,
               reserved_quantity = reserved_quantity + move.reserved
         where id = move.product_id;
        return;
    end if;
    update products p
       set sold_quantity = p.sold_quantity + m.sold,
           reserved_quantity = p.reserved_quantity + m.reserved
      from (select product_id, sum(sold)::integer as sold, sum(reserved)::integer as reserved
              from unnest(moves) group by product_id) m
     where p.id = m.product_id and (m.sold <> 0 or m.reserved <> 0);
    if has_variants then
        update variants v
           set sold_quantity = v.sold_quantity + m.sold,
               reserved_quantity = v.reserved_quantity + m.reserved
          from (select variant_id, sum(sold)::integer as sold, sum(reserved)::integer as reserved
                  from unnest(moves) where variant_id is not null group by variant_id) m
         where v.id = m.variant_id and (m.sold <> 0 or m.reserved <> 0);
    end if;
end
$$;
