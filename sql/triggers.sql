-- All triggers. The comment above each says when it fires, what it writes and what it locks.
-- A statement trigger also fires for statements without rows; its function then writes nothing.

-- For each inserted or updated product: if a tracked column (quantities, status, price, name, threshold)
-- differs, the product takes its next version. Locks: nothing beyond the row.
create or replace trigger products_number
    before insert or update on products
    for each row execute function number_product_change();

-- For each statement: writes one log row per changed product, then one announcement. Locks: none.
create or replace trigger products_log_insert
    after insert on products referencing new table as after_rows
    for each statement execute function log_product_changes();

create or replace trigger products_log_update
    after update on products referencing old table as before_rows new table as after_rows
    for each statement execute function log_product_changes();

-- For each updated product that has kept its version: it takes the next one after all if a BEFORE trigger
-- of the shop has changed a tracked column after ours had compared it. The condition is short because
-- Postgres parses it for each statement; it is false for every change that ours has counted. Locks: nothing
-- beyond the row.
create or replace trigger products_renumber
    after update on products
    for each row when (old.version = new.version) execute function renumber_change();

-- For each inserted or updated variant: if a tracked column differs, the variant takes the next version of
-- its product. Writes the product's version. Locks: the product's row.
create or replace trigger variants_number
    before insert or update on variants
    for each row execute function number_variant_change();

-- For each statement: writes one log row per changed variant, then one announcement. Locks: nothing beyond
-- the products, which variants_number has locked.
create or replace trigger variants_log_insert
    after insert on variants referencing new table as after_rows
    for each statement execute function log_variant_changes();

create or replace trigger variants_log_update
    after update on variants referencing old table as before_rows new table as after_rows
    for each statement execute function log_variant_changes();

-- For each updated variant that has kept its version: as products_renumber.
create or replace trigger variants_renumber
    after update on variants
    for each row when (old.version = new.version) execute function renumber_change();

-- Products and variants are discontinued, never deleted: the log, orders and the streams of clients that
-- reconnect refer to them.
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
