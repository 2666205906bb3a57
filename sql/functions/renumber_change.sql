-- Trigger function, AFTER UPDATE, each row of products and variants whose tracked columns differ though
-- its version has not moved: a BEFORE trigger of the shop's, whose name sorts after ours, has changed
-- it. Gives the row the next version; the statement's own log row takes that number.
-- Locks: nothing beyond the row, and its product.
create or replace function renumber_change() returns trigger
language plpgsql
security definer
set search_path from current
as $$
begin
    if tg_table_name = 'products' then
        update products set version = version + 1 where id = new.id;
    else
        update variants set version = version + 1 where id = new.id;
    end if;
    return null;
end
$$;
