-- Trigger function: BEFORE INSERT OR UPDATE, for each row of products.
-- If a tracked column changes, the product takes its next version; if none does, the version stays,
-- whatever the statement sets, so that no version is skipped or taken twice. Another trigger may change
-- the row after this one: products_renumber handles that.
-- Locks: nothing beyond the row that is written.
-- Raises: 55000 if the id is changed; 23514 for a new product with the id `.` or `..`, which browsers
-- remove from an address.
create or replace function number_product_change() returns trigger
language plpgsql
security definer
set search_path from current
as $$
begin
    if tg_op = 'INSERT' then
        if new.id in ('.', '..') then
            raise exception 'a product cannot have the id %', new.id
                using errcode = 'check_violation',
                      hint = 'Browsers remove . and .. from an address.';
        end if;
        new.version := 1;
    elsif new.id <> old.id then
        raise exception 'the id of product % cannot be changed', old.id
            using errcode = 'object_not_in_prerequisite_state',
                  hint = 'Make a new product and discontinue this one.';
    elsif (new.max_quantity, new.sold_quantity, new.reserved_quantity, new.status,
           new.base_price, new.name, new.low_stock_threshold)
          is distinct from
          (old.max_quantity, old.sold_quantity, old.reserved_quantity, old.status,
           old.base_price, old.name, old.low_stock_threshold) then
        new.version := old.version + 1;
    elsif new.version > old.version
          and (pg_trigger_depth() > 1
               or current_setting('stream_server.renumbering', true) = 'on') then
        null;  -- one of our functions takes a version, for a variant or for a missed change
    else
        new.version := old.version;
        new.changed_xid := old.changed_xid;
        new.updated_at := old.updated_at;
        new.published_at := old.published_at;
        return new;
    end if;
    new.changed_xid := pg_current_xact_id();
    new.updated_at := clock_timestamp();
    if tg_op = 'UPDATE' then
        new.published_at := old.published_at;
    else
        new.published_at := null;
    end if;
    if new.status <> 'draft' and new.published_at is null then
        new.published_at := new.updated_at;
    end if;
    return new;
end
$$;
