-- Trigger function, BEFORE INSERT OR UPDATE, each row of products.
-- Gives a change of a tracked column the product's next version; keeps the version where none
-- differs, whatever the statement says, so that a version is never skipped or taken twice. Another
-- trigger may change the row after this one: products_renumber sees to that.
-- Locks: nothing beyond the row that is being written.
-- Raises: 55000 if the id is changed; 23514 for a new product called . or .., which browsers take out
-- of an address.
create or replace function number_product_change() returns trigger
language plpgsql
security definer
set search_path from current
as $$
begin
    if tg_op = 'INSERT' then
        if new.id in ('.', '..') then
            raise exception 'a product cannot be called %', new.id
                using errcode = 'check_violation',
                      hint = 'Browsers take . and .. out of an address.';
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
        null;  -- one of our functions takes a number, for a variant or for a change that was missed
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
