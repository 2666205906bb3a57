-- turn_alerts(log_ids): opens and closes the alerts of rows whose stock_level has changed, according to
-- these log rows. The functions that write the log call it, so it covers every writer, and only
-- transitions: saving a row that is already low opens nothing.
--   low, out   opens when the row gets this level, closes when the row leaves it
--   back       opens when the row was out and can be bought again; closes when the row is out again, or
--              when somebody acknowledges the alert
-- Locks: the alerts that it closes. The change itself has locked the product's row, so two transactions
-- never work on the alerts of the same product at once.
create or replace function turn_alerts(log_ids bigint[]) returns void
language plpgsql
set search_path from current
as $$
declare
    turned record;
begin
    for turned in
        select l.product_id, l.variant_id, l.available_after as available,
               l.status_after = 'active' as is_active,
               stock_level(l.status_before, l.available_before, l.threshold_before) as level_before,
               stock_level(l.status_after, l.available_after, l.threshold_after) as level
          from inventory_log l
         where l.id = any (log_ids)
         order by l.id
    loop
        update stock_alerts a
           set closed_at = clock_timestamp(), changed_xid = pg_current_xact_id()
         where a.product_id = turned.product_id
           and a.variant_id is not distinct from turned.variant_id
           and a.source is null
           and a.closed_at is null
           and (a.level in ('low', 'out') and a.level <> turned.level
                or a.level = 'back' and (turned.level = 'out' or not turned.is_active));

        insert into stock_alerts (product_id, variant_id, level, message)
        select turned.product_id, turned.variant_id, opened.level, opened.message
          from (values
                ('out', 'Sold Out', turned.level = 'out'),
                ('low', format('Only %s remaining!', turned.available), turned.level = 'low'),
                ('back', coalesce('Back in stock: ' || turned.available, 'Back in stock'),
                 turned.level_before = 'out' and turned.level <> 'out' and turned.is_active)
               ) opened (level, message, is_so)
         where opened.is_so
            on conflict (product_id, variant_id, source, level) where closed_at is null do nothing;
    end loop;
end
$$;
