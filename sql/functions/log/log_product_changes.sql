-- Trigger function: AFTER INSERT and AFTER UPDATE, for each statement on products, with the transition
-- tables after_rows and (for UPDATE) before_rows.
-- Writes one log row for each row whose tracked columns have changed, all in one INSERT, and announces
-- them once. The transaction's settings stream_server.* say who changes them and why.
-- enable_nestloop is off because the plan of the join is cached: made for a statement of one row, a nested
-- loop would take quadratic time in a later statement of ten thousand rows.
-- Locks: none.
create or replace function log_product_changes() returns trigger
language plpgsql
security definer
set search_path from current
set enable_nestloop = off
as $$
declare
    changed text[];
    turned bigint[];  -- log rows of products whose stock_level has changed
begin
    if tg_op = 'INSERT' then
        with logged as (
            insert into inventory_log
                  (product_id, version, operation, change,
                   max_after, sold_after, reserved_after, available_after,
                   threshold_after, price_after, status_after, name_after,
                   reason, note, actor, reference, idempotency_key, batch_id, created_at)
            select n.id, n.version, c.operation, n.available_quantity,
                   n.max_quantity, n.sold_quantity, n.reserved_quantity, n.available_quantity,
                   n.low_stock_threshold, n.base_price, n.status, n.name,
                   c.reason, c.note, c.actor, c.reference, c.idempotency_key, c.batch_id,
                   n.updated_at
              from after_rows n, change_context(tg_op) c
            returning id, product_id,
                      stock_level(status_after, available_after, threshold_after) <> 'ok'
                      as has_turned)
        select array_agg(product_id), array_agg(id) filter (where has_turned)
          into changed, turned from logged;
    else
        with logged as (
            insert into inventory_log
                  (product_id, version, operation, change,
                   max_before, max_after, sold_before, sold_after,
                   reserved_before, reserved_after, available_before, available_after,
                   threshold_before, threshold_after, price_before, price_after,
                   status_before, status_after, name_before, name_after,
                   reason, note, actor, reference, idempotency_key, batch_id, created_at)
            -- If the version is the old one, another trigger changed the row after ours had compared
            -- it, and products_renumber has given it the next version meanwhile.
            select n.id, o.version + 1, c.operation,
                   case when n.max_quantity is null and o.max_quantity is null
                        then least(2147483647, greatest(-2147483647,
                                 o.sold_quantity::bigint + o.reserved_quantity
                                 - n.sold_quantity - n.reserved_quantity))
                        else n.available_quantity - o.available_quantity end,
                   o.max_quantity, n.max_quantity, o.sold_quantity, n.sold_quantity,
                   o.reserved_quantity, n.reserved_quantity,
                   o.available_quantity, n.available_quantity,
                   o.low_stock_threshold, n.low_stock_threshold, o.base_price, n.base_price,
                   o.status, n.status, o.name, n.name,
                   c.reason, c.note, c.actor, c.reference, c.idempotency_key, c.batch_id,
                   case when n.version = o.version then clock_timestamp() else n.updated_at end
              from change_context(tg_op) c, after_rows n join before_rows o on o.id = n.id
             where (n.max_quantity, n.sold_quantity, n.reserved_quantity, n.status,
                    n.base_price, n.name, n.low_stock_threshold)
                   is distinct from
                   (o.max_quantity, o.sold_quantity, o.reserved_quantity, o.status,
                    o.base_price, o.name, o.low_stock_threshold)
            returning id, product_id,
                      stock_level(status_before, available_before, threshold_before)
                      <> stock_level(status_after, available_after, threshold_after) as has_turned)
        select array_agg(product_id), array_agg(id) filter (where has_turned)
          into changed, turned from logged;
    end if;
    if turned is not null then
        perform turn_alerts(turned);
    end if;
    if changed is not null then
        perform announce_changes(changed);
    end if;
    return null;
end
$$;
