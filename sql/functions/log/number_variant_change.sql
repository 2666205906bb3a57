-- Trigger function: BEFORE INSERT OR UPDATE, for each row of variants.
-- If a tracked column changes, the variant takes the next version of its product.
-- Locks: the product's row (FOR NO KEY UPDATE, by the update of its version). A statement that updates
-- variants directly has locked the variant first. Functions that change stock lock the product before
-- the variant, so that two of them never wait for each other.
-- Raises: 55000 if the id or the product is changed; 23503 if the product does not exist.
create or replace function number_variant_change() returns trigger
language plpgsql
security definer
set search_path from current
as $$
begin
    if tg_op = 'UPDATE' then
        if (new.id, new.product_id) is distinct from (old.id, old.product_id) then
            raise exception 'the id and the product of variant % cannot be changed', old.id
                using errcode = 'object_not_in_prerequisite_state',
                      hint = 'Make a new variant and discontinue this one.';
        end if;
        if (new.max_quantity, new.sold_quantity, new.reserved_quantity, new.status,
            new.price, new.variant_value, new.low_stock_threshold)
           is not distinct from
           (old.max_quantity, old.sold_quantity, old.reserved_quantity, old.status,
            old.price, old.variant_value, old.low_stock_threshold)
           and not (new.version > old.version
                    and (pg_trigger_depth() > 1
                         or current_setting('stream_server.renumbering', true) = 'on')) then
            new.version := old.version;
            new.updated_at := old.updated_at;
            return new;
        end if;
    else
        -- With ON CONFLICT this trigger runs also for rows that will not be inserted: those take no
        -- version here. The lock makes sure that the answer stays true.
        perform from products where id = new.product_id for no key update;
        if exists (select from variants where id = new.id) then
            return new;
        end if;
    end if;
    update products
       set version = version + 1, has_variants = true
     where id = new.product_id
    returning version, updated_at into new.version, new.updated_at;
    if not found then
        raise exception 'there is no product % for variant %', new.product_id, new.id
            using errcode = 'foreign_key_violation';
    end if;
    return new;
end
$$;
