-- apply_counts(of_source, taken_at, counts, actor): takes over what an external system counted.
-- `counts` is [{"productId", "variantId"?, "count", "soldOnShelf"?}]: all units that lay there at
-- `taken_at`, those on hold included; `soldOnShelf` of them were sold already, though they had not left:
-- they do not go on sale again. If it is left out, it is 0, or, for a source with `sends_within`
-- (sync_state), what was sold so long before the count.
--
--     select * from apply_counts('erp', '2026-05-04 18:00+02', '[{"productId": "Cap", "count": 40}]');
--
-- The report may be late, so a count is corrected by the log since it was taken: sales have gone,
-- and whatever else changed max_quantity (a delivery, damage) has come or gone; corrections by other
-- reports don't count as such. The row then has max = count - soldOnShelf + sold at that time + what
-- has come.
-- For each count, a row with the units `moved` since, and its outcome:
--   applied, unchanged
--   clamped     less is there than is sold and reserved: nothing is left, and there is an alert
--               'sync', closed by the next count that is not clamped
--   superseded  a count of the same row was taken at that time or later: by any source, or by hand
--               (an adjustment with the reason `count`)
--   unlimited   the row has no limit that a count could correct
--   unknown     there is no such product, or no such variant of it
--   too_old     the log does not reach back so far (prune_inventory_log)
-- Locks: the source; products, then variants, each in the order of ids (lock_stock); alerts.
-- Raises: SS001 for a time more than a minute ahead; for a count that is no whole number from 0,
-- or past the largest integer together with what is sold and has come; for a soldOnShelf above it;
-- and for a new source where there are 100.
create or replace function apply_counts(
    of_source text, taken_at timestamptz, counts jsonb, actor text default null)
returns table (product_id text, variant_id text, outcome text, count integer, moved integer,
               max_before integer, max_after integer, available integer)
language plpgsql
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    before    text[] := begin_change('sync', actor);
    line      record;
    since     bigint;  -- the product's version at that time
    sold      bigint;  -- units sold since
    on_shelf  bigint;  -- units sold before, that were counted
    within    interval;
    received  bigint;  -- units that came since, less those that went otherwise
    pruned    timestamptz;  -- the log is whole after this; null: it was never pruned
    new_max   bigint;
    least     bigint;
    most      bigint;
begin
    if taken_at > clock_timestamp() + interval '1 minute' then
        perform refuse_field('occurredAt', 'in the past');
    end if;
    if not exists (select from sync_state s where s.source = of_source)
       and (select count(*) from sync_state) >= 100 then
        perform refuse_field('source', 'one of the 100 that have reported before;'
                             ' delete those of sync_state that report no more');
    end if;
    insert into sync_state as s (source, last_occurred_at, last_received_at, last_delay)
    values (of_source, taken_at, clock_timestamp(), clock_timestamp() - taken_at)
        on conflict (source) do update
       set last_occurred_at = greatest(s.last_occurred_at, excluded.last_occurred_at),
           last_received_at = excluded.last_received_at, last_delay = excluded.last_delay
    returning sends_within into within;
    perform set_config('stream_server.reference', of_source, true),
            set_config('stream_server.reason', 'count', true),
            set_config('stream_server.note', 'counted ' || taken_at::text, true);
    perform lock_stock(array(
        select (c ->> 'productId', c ->> 'variantId', 0)::stock_line
          from jsonb_array_elements(counts) c));

    for line in
        select c ->> 'productId' as product_id, c ->> 'variantId' as variant_id,
               (c ->> 'count')::bigint as count,
               (c ->> 'soldOnShelf')::bigint as sold,
               format('counts[%s]', number - 1) as place
          from jsonb_array_elements(counts) with ordinality given (c, number)
         order by 1, 2 nulls last  -- a count of the product itself has the last word
    loop
        if (line.count between 0 and 2147483647) is not true then
            perform refuse_field(line.place || '.count', 'a whole number from 0 to 2147483647');
        elsif line.sold not between 0 and line.count then
            perform refuse_field(line.place || '.soldOnShelf',
                                 'a whole number from 0 to the count, ' || line.count);
        end if;
        product_id := line.product_id;
        variant_id := line.variant_id;
        count := line.count;
        moved := null;
        if variant_id is null then
            select p.max_quantity, p.available_quantity into max_before, available
              from products p where p.id = line.product_id;
        else
            select v.max_quantity, v.available_quantity into max_before, available
              from variants v where v.id = line.variant_id and v.product_id = line.product_id;
        end if;
        max_after := max_before;
        if not found then
            outcome := 'unknown';
            return next;
            continue;
        elsif max_before is null then
            outcome := 'unlimited';
            return next;
            continue;
        end if;

        select l.version into since from inventory_log l
         where l.product_id = line.product_id and l.created_at <= taken_at
         order by l.version desc limit 1;
        if since is null then
            select case when l.version = 1 then 0 end into since from inventory_log l
             where l.product_id = line.product_id
             order by l.version limit 1;
        end if;
        if exists (select from sync_counts s
                    where s.product_id = line.product_id
                      and s.variant_id is not distinct from line.variant_id
                      and s.occurred_at >= taken_at)
           or exists (select from inventory_log l
                       where l.product_id = line.product_id and l.version > coalesce(since, 0)
                         and l.variant_id is not distinct from line.variant_id
                         and l.reason = 'count' and l.operation <> 'sync') then
            outcome := 'superseded';
            return next;
            continue;
        end if;

        -- In one statement: a row that is pruned before it is told of by the setting.
        select coalesce(sum(l.sold_after - l.sold_before), 0),
               coalesce(sum(l.max_after - l.max_before) filter (where l.operation <> 'sync'), 0),
               (select value::timestamptz from stream_settings where name = 'log_pruned_before')
          into sold, received, pruned
          from inventory_log l
         where l.product_id = line.product_id and l.version > coalesce(since, 0)
           and l.variant_id is not distinct from line.variant_id;
        if taken_at < pruned or since is null and pruned is null then
            outcome := 'too_old';
            return next;
            continue;
        end if;
        on_shelf := coalesce(line.sold, least(line.count, sold_within(
            line.product_id, line.variant_id, taken_at, within)));
        if variant_id is null then
            select line.count - on_shelf + p.sold_quantity - sold + received into new_max
              from products p where p.id = line.product_id;
        else
            select line.count - on_shelf + v.sold_quantity - sold + received into new_max
              from variants v where v.id = line.variant_id;
        end if;
        moved := received - sold;
        select * into least, most from max_bounds(line.product_id, line.variant_id);
        if new_max > most then
            perform refuse_field(line.place || '.count', (most - new_max + line.count) || ' at most');
        end if;
        outcome := case when new_max < least then 'clamped'
                        when new_max = max_before then 'unchanged'
                        else 'applied' end;
        max_after := greatest(new_max, least);
        if max_after <> max_before then
            perform change_max(line.product_id, line.variant_id, max_after);
            available := available + (max_after - max_before);
        end if;
        if outcome = 'clamped' then
            perform raise_alert(line.product_id, line.variant_id, 'sync', format(
                '%s counted %s, which is %s fewer than are sold and reserved',
                of_source, line.count, least - new_max));
        else
            perform close_alert(line.product_id, line.variant_id, 'sync');
        end if;
        insert into sync_counts as s (source, product_id, variant_id, count, occurred_at)
        values (of_source, line.product_id, line.variant_id, line.count, taken_at)
            on conflict on constraint sync_counts_one_each do update
           set count = excluded.count, occurred_at = excluded.occurred_at,
               received_at = now();
        return next;
    end loop;
    perform end_change(before);
end
$$;
