-- prune_inventory_log(older_than): deletes log rows older than an age; gives their number.
-- The only way to delete from the log. What it deletes can no longer be replayed, or resumed
-- in the admin room.
-- Locks: the deleted rows.
create or replace function prune_inventory_log(older_than interval) returns bigint
language plpgsql
security definer
set search_path from current
as $$
declare
    pruned bigint;
begin
    perform set_config('stream_server.pruning', 'on', true);
    delete from inventory_log where created_at < now() - older_than;
    get diagnostics pruned = row_count;
    perform set_config('stream_server.pruning', '', true);
    return pruned;
end
$$;
