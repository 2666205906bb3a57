-- The newest id among the log rows whose transaction number this read's snapshot does not see, although
-- the rows are there: rows from another cluster, from a dump. 0 if there are none. The index on (xid, id)
-- is read from the oldest transaction in progress on: only few entries if no row is from another cluster.
with unseen as materialized (
    select id
      from inventory_log
     where xid >= pg_snapshot_xmin(pg_current_snapshot())
       and not pg_visible_in_snapshot(xid, pg_current_snapshot()))
select coalesce(max(id), 0) from unseen
