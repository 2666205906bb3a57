-- move_stock(moves): adds to the sold and reserved quantities of products, and with them of their
-- variants: one statement a table, so that the log gets its rows in one insert.
-- Wants the rows locked (lock_stock); locks nothing more.
-- Raises: 23514 where a quantity would leave its bounds.
create or replace function move_stock(moves stock_move[]) returns void
language plpgsql as $$
begin
    update products p
       set sold_quantity = p.sold_quantity + m.sold,
           reserved_quantity = p.reserved_quantity + m.reserved
      from (select product_id, sum(sold)::integer as sold, sum(reserved)::integer as reserved
              from unnest(moves) group by product_id) m
     where p.id = m.product_id and (m.sold <> 0 or m.reserved <> 0);
    if exists (select from unnest(moves) where variant_id is not null) then
        update variants v
           set sold_quantity = v.sold_quantity + m.sold,
               reserved_quantity = v.reserved_quantity + m.reserved
          from (select variant_id, sum(sold)::integer as sold, sum(reserved)::integer as reserved
                  from unnest(moves) where variant_id is not null group by variant_id) m
         where v.id = m.variant_id and (m.sold <> 0 or m.reserved <> 0);
    end if;
end
$$;
