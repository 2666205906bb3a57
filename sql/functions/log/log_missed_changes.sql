-- log_missed_changes(most): finds products and variants that were changed without the triggers (by
-- session_replication_role = replica, logical replication's apply, a restore with triggers disabled):
-- rows that differ from their newest log row. Gives each the next version and a log row with the
-- operation `missed`, so that streams report it; at most `most` rows per call. Returns the number of rows.
-- Locks: products (SKIP LOCKED: a row that somebody else works on is left for another time), then variants.
-- Raises: 42501 (refuse_strangers).
create or replace function log_missed_changes(most integer default 1000) returns integer
language plpgsql
security definer
set search_path from current
as $$
declare
    before text[] := begin_change('missed', null);
    missed record;
    state  record;
    last   inventory_log;
    logged bigint;
    total  integer := 0;
begin
    perform set_config('stream_server.renumbering', 'on', true);
    for missed in
        select s.product_id, s.variant_id
          from stock_states s
          left join lateral (
               select l.* from inventory_log l
                where l.product_id = s.product_id
                  and l.variant_id is not distinct from s.variant_id
                order by l.version desc limit 1) l on true
         where (l.max_after, l.sold_after, l.reserved_after, l.status_after, l.price_after,
                l.name_after, l.threshold_after)
               is distinct from
               (s.max_quantity, s.sold_quantity, s.reserved_quantity, s.status, s.price,
                s.name, s.low_stock_threshold)
         order by s.product_id, s.variant_id nulls first
         limit most
    loop
        perform from products p where p.id = missed.product_id for no key update skip locked;
        continue when not found;
        -- Read again under the lock: the row may have changed meanwhile, and been logged.
        select * into last from inventory_log l
         where l.product_id = missed.product_id
           and l.variant_id is not distinct from missed.variant_id
         order by l.version desc limit 1;
        select * into state from stock_states s
         where s.product_id = missed.product_id
           and s.variant_id is not distinct from missed.variant_id;
        continue when (last.max_after, last.sold_after, last.reserved_after, last.status_after,
                       last.price_after, last.name_after, last.threshold_after)
                      is not distinct from
                      (state.max_quantity, state.sold_quantity, state.reserved_quantity, state.status,
                       state.price, state.name, state.low_stock_threshold);
        if missed.variant_id is null then
            update products p
               set version = 1 + greatest(p.version, (select max(l.version) from inventory_log l
                                                       where l.product_id = p.id))
             where p.id = missed.product_id;
        else
            update variants v set version = v.version + 1 where v.id = missed.variant_id;
        end if;
        insert into inventory_log
              (product_id, variant_id, version, operation, change,
               max_before, max_after, sold_before, sold_after, reserved_before, reserved_after,
               available_before, available_after, threshold_before, threshold_after,
               price_before, price_after, status_before, status_after, name_before, name_after,
               actor)
        select p.id, missed.variant_id, p.version, 'missed',
               state.available_quantity - last.available_after,
               last.max_after, state.max_quantity, last.sold_after, state.sold_quantity,
               last.reserved_after, state.reserved_quantity,
               last.available_after, state.available_quantity,
               last.threshold_after, state.low_stock_threshold,
               last.price_after, state.price, last.status_after, state.status,
               last.name_after, state.name, current_setting('stream_server.actor')
          from products p where p.id = missed.product_id
        returning id into logged;
        perform turn_alerts(array[logged]), announce_changes(array[missed.product_id]);
        total := total + 1;
    end loop;
    perform set_config('stream_server.renumbering', '', true);
    perform end_change(before);
    return total;
end
$$;
