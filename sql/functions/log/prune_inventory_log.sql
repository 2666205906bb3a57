-- prune_inventory_log(older_than, most): deletes log rows that are older than an age, at most `most` per
-- call, the oldest first. Returns their number. This is the only way to delete from the log. The newest
-- row of each product and of each variant stays, however old it is. Deleted rows can no longer be
-- replayed, nor can the admin room resume from them. Counts taken before a deleted row are `too_old`
-- (apply_counts): `log_pruned_before` in stream_settings is the time of the newest row ever deleted.
-- Locks: the deleted rows; that setting.
create or replace function prune_inventory_log(older_than interval, most integer default 10000)
returns bigint
language plpgsql
security definer
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    moment timestamptz := now() - older_than;
    until  bigint := first_id_since('inventory_log', moment);
    old    bigint[];
    pruned bigint;
    newest timestamptz;
begin
    perform set_config('stream_server.pruning', 'on', true);
    old := array(select l.id from inventory_log l
                  where l.id < until and l.created_at < moment
                    and case when l.variant_id is null
                             then exists (select from inventory_log n
                                           where n.product_id = l.product_id
                                             and n.version > l.version and n.variant_id is null)
                             -- A variant knows the version of its newest row.
                             else exists (select from variants v
                                           where v.id = l.variant_id and v.version > l.version)
                        end
                  order by l.id
                  limit most);
    with gone as (
        delete from inventory_log where id = any (old) returning created_at)
    select count(*), max(created_at) into pruned, newest from gone;
    perform set_config('stream_server.pruning', '', true);
    if pruned > 0 then
        insert into stream_settings as s (name, value)
        values ('log_pruned_before',
                to_char(newest at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
            on conflict (name) do update set value = greatest(s.value, excluded.value);
    end if;
    return pruned;
end
$$;

revoke execute on function prune_inventory_log(interval, integer) from public;
