-- Trigger function: AFTER UPDATE, for each row of products and variants that has kept its version. If a
-- tracked column differs all the same, a BEFORE trigger of the shop, whose name sorts after ours, has
-- changed the row. The row then takes the next version, and the log row of the statement has that version.
-- Locks: nothing beyond the row and its product.
create or replace function renumber_change() returns trigger
language plpgsql
security definer
set search_path from current
as $$
begin
    if tg_table_name = 'products' then
        if (new.max_quantity, new.sold_quantity, new.reserved_quantity, new.status,
            new.base_price, new.name, new.low_stock_threshold)
           is distinct from
           (old.max_quantity, old.sold_quantity, old.reserved_quantity, old.status,
            old.base_price, old.name, old.low_stock_threshold) then
            update products set version = version + 1 where id = new.id;
        end if;
    elsif (new.max_quantity, new.sold_quantity, new.reserved_quantity, new.status,
           new.price, new.variant_value, new.low_stock_threshold)
          is distinct from
          (old.max_quantity, old.sold_quantity, old.reserved_quantity, old.status,
           old.price, old.variant_value, old.low_stock_threshold) then
        update variants set version = version + 1 where id = new.id;
    end if;
    return null;
end
$$;
