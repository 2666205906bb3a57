-- Trigger function: AFTER INSERT and AFTER UPDATE, for each statement on variants, with the transition
-- tables after_rows and (for UPDATE) before_rows. Does for variants what log_product_changes does for
-- products. The log row has the version that the variant took from its product.
-- Writes the rows in the order of their versions, so that the log's ids rise with the versions. Then a
-- product whose max is the sum of its variants' follows them (follow_variants).
-- Locks: nothing beyond the products, which number_variant_change has locked.
create or replace function log_variant_changes() returns trigger
language plpgsql
security definer
set search_path from current
set enable_nestloop = off
as $$
declare
    changed text[];
    turned bigint[];  -- log rows of variants whose stock_level has changed
    grown  bigint[];  -- log rows of variants whose max_quantity has changed
begin
    if tg_op = 'INSERT' then
        with logged as (
            insert into inventory_log
                  (product_id, variant_id, version, operation, change,
                   max_after, sold_after, reserved_after, available_after,
                   threshold_after, price_after, status_after, name_after,
                   reason, note, actor, reference, idempotency_key, batch_id, created_at)
            select n.product_id, n.id, n.version, c.operation, n.available_quantity,
                   n.max_quantity, n.sold_quantity, n.reserved_quantity, n.available_quantity,
                   n.low_stock_threshold, n.price, n.status, n.variant_value,
                   c.reason, c.note, c.actor, c.reference, c.idempotency_key, c.batch_id,
                   n.updated_at
              from after_rows n, change_context(tg_op) c
             order by n.product_id, n.version
            returning id, product_id,
                      stock_level(status_after, available_after, threshold_after) <> 'ok'
                      as has_turned,
                      max_after is not null as has_grown)
        select array_agg(distinct product_id), array_agg(id) filter (where has_turned),
               array_agg(id) filter (where has_grown)
          into changed, turned, grown from logged;
    else
        with logged as (
            insert into inventory_log
                  (product_id, variant_id, version, operation, change,
                   max_before, max_after, sold_before, sold_after,
                   reserved_before, reserved_after, available_before, available_after,
                   threshold_before, threshold_after, price_before, price_after,
                   status_before, status_after, name_before, name_after,
                   reason, note, actor, reference, idempotency_key, batch_id, created_at)
            select n.product_id, n.id,
                   -- If the version is the old one, another trigger changed the row after ours had
                   -- compared it, and variants_renumber has given it a new version meanwhile.
                   case when n.version = o.version
                        then (select v.version from variants v where v.id = n.id)
                        else n.version end,
                   c.operation,
                   case when n.max_quantity is null and o.max_quantity is null
                        then least(2147483647, greatest(-2147483647,
                                 o.sold_quantity::bigint + o.reserved_quantity
                                 - n.sold_quantity - n.reserved_quantity))
                        else n.available_quantity - o.available_quantity end,
                   o.max_quantity, n.max_quantity, o.sold_quantity, n.sold_quantity,
                   o.reserved_quantity, n.reserved_quantity,
                   o.available_quantity, n.available_quantity,
                   o.low_stock_threshold, n.low_stock_threshold, o.price, n.price,
                   o.status, n.status, o.variant_value, n.variant_value,
                   c.reason, c.note, c.actor, c.reference, c.idempotency_key, c.batch_id,
                   case when n.version = o.version then clock_timestamp() else n.updated_at end
              from change_context(tg_op) c, after_rows n join before_rows o on o.id = n.id
             where (n.max_quantity, n.sold_quantity, n.reserved_quantity, n.status,
                    n.price, n.variant_value, n.low_stock_threshold)
                   is distinct from
                   (o.max_quantity, o.sold_quantity, o.reserved_quantity, o.status,
                    o.price, o.variant_value, o.low_stock_threshold)
             order by n.product_id, n.version
            returning id, product_id,
                      stock_level(status_before, available_before, threshold_before)
                      <> stock_level(status_after, available_after, threshold_after) as has_turned,
                      max_before is distinct from max_after as has_grown)
        select array_agg(distinct product_id), array_agg(id) filter (where has_turned),
               array_agg(id) filter (where has_grown)
          into changed, turned, grown from logged;
    end if;
    if grown is not null then
        perform follow_variants(grown);
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
