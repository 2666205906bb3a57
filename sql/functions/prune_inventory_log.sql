-- prune_inventory_log(older_than): deletes log rows older than an age; gives their number.
-- The only way to delete from the log. What it deletes can no longer be replayed, or resumed
-- in the admin room.
-- Locks: the deleted rows.
create or replace function prune_inventory_log(older_than interval) returns bigint
language plpgsql
set stream_server.pruning = 'on'
as $$
declare
    pruned bigint;
begin
    delete from inventory_log where created_at < now() - older_than;
    get diagnostics pruned = row_count;
    return pruned;
end
$$;
