-- apply_counts(of_source, taken_at, counts, actor): applies the counts of an external system. `counts` is
-- [{"productId", "variantId"?, "count", "soldOnShelf"?}]. A count is the number of all units that were on
-- the shelf at `taken_at`, including reserved units. `soldOnShelf` of them were sold but not yet sent:
-- they do not go on sale again. The default is 0, or, for a source with `sends_within` (sync_state), the
-- number of units that were sold within that time before the count.
--
--     select * from apply_counts('erp', '2026-05-04 18:00+02', '[{"productId": "Cap", "count": 40}]');
--
-- The report may be late, so the log since `taken_at` corrects the count: units that were sold have left,
-- and every other change of max_quantity (a delivery, damage) has added or removed units; corrections by
-- other reports are ignored. The row's new max is count - soldOnShelf + sold_quantity at that time + units
-- added since.
-- Returns a row for each count, with the units `moved` since, and its outcome:
--   applied, unchanged
--   clamped     fewer units are there than are sold and reserved: none is left, and the alert 'sync' is
--               open until a count is not clamped
--   superseded  the same row was counted at that time or later: by any source, or by hand (an adjustment
--               with the reason `count`)
--   unlimited   the row has no limit that a count could correct
--   unknown     the product does not exist, or does not have this variant
--   too_old     the log does not reach back to that time (prune_inventory_log)
-- Locks: the source; products, then variants, each in the order of ids (lock_stock); alerts.
-- Raises: SS001 for a time more than a minute in the future; for a count that is not a whole number from
-- 0, or that exceeds the largest integer with the units sold and added; for a soldOnShelf above the count;
-- and for a new source if 100 sources exist.
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
    since     bigint;  -- the product's version at taken_at
    sold      bigint;  -- units sold since taken_at
    on_shelf  bigint;  -- units sold before taken_at that were counted
    within    interval;
    received  bigint;  -- units added since taken_at, minus those removed other than by sales
    pruned    timestamptz;  -- the log is complete after this time; null: it was never pruned
    new_max   bigint;
    least     bigint;
    most      bigint;
begin
    if taken_at > clock_timestamp() + interval '1 minute' then
        perform refuse_field('occurredAt', 'in the past');
    end if;
    if not exists (select from sync_state s where s.source = of_source)
       and (select count(*) from sync_state) >= 100 then
        perform refuse_field('source', 'one of the 100 known sources;'
                             ' delete sources that no longer report from sync_state');
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
         order by 1, 2 nulls last  -- a count of the product itself comes last and wins
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

        -- One statement reads the log and the setting, so it sees a row or that the row was pruned.
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
            perform refuse_field(line.place || '.count', 'at most ' || (most - new_max + line.count));
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
