-- Every trigger. Above each: when it fires, what it writes, what it locks.
-- A statement trigger fires for no rows too; its function then writes nothing.

-- Each inserted or updated product: takes the product's next version if a tracked column
-- (quantities, status, price, name, threshold) differs. Locks nothing more than the row.
create or replace trigger products_number
    before insert or update on products
    for each row execute function number_product_change();

-- Each statement: one log row a changed product, then one announcement. Locks nothing.
create or replace trigger products_log_insert
    after insert on products referencing new table as after_rows
    for each statement execute function log_product_changes();

create or replace trigger products_log_update
    after update on products referencing old table as before_rows new table as after_rows
    for each statement execute function log_product_changes();

-- Each updated product that took no number: takes one after all if a BEFORE trigger of the shop's has
-- changed a tracked column after ours had looked. The condition is short because Postgres reads it anew
-- for each statement; it is false for whatever counts. Locks nothing more.
create or replace trigger products_renumber
    after update on products
    for each row when (old.version = new.version) execute function renumber_change();

-- Each inserted or updated variant: takes the next version of its product if a tracked column
-- differs. Writes the product's version; locks the product's row.
create or replace trigger variants_number
    before insert or update on variants
    for each row execute function number_variant_change();

-- Each statement: one log row a changed variant, then one announcement. Locks nothing.
create or replace trigger variants_log_insert
    after insert on variants referencing new table as after_rows
    for each statement execute function log_variant_changes();

create or replace trigger variants_log_update
    after update on variants referencing old table as before_rows new table as after_rows
    for each statement execute function log_variant_changes();

-- Each updated variant that took no number, likewise.
create or replace trigger variants_renumber
    after update on variants
    for each row when (old.version = new.version) execute function renumber_change();

-- Products and variants are discontinued, never deleted: the log, orders and the streams of
-- clients that come back refer to them.
create or replace trigger products_stay
    before delete or truncate on products
    for each statement execute function
    refuse_change('Set its status to ''discontinued'', or to ''draft'' to hide it.');

create or replace trigger variants_stay
    before delete or truncate on variants
    for each statement execute function
    refuse_change('Set its status to ''discontinued'', or to ''draft'' to hide it.');

-- The log is append-only.
create or replace trigger inventory_log_stays
    before update or delete or truncate on inventory_log
    for each statement execute function
    refuse_change('The log is append-only; prune_inventory_log(interval) deletes by age.');
