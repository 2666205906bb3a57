-- The newest id among those rows of the log that are there although this read's snapshot does not
-- see their number: another cluster's, from a dump. 0 if there are none. The index of numbers is
-- read from the oldest transaction in progress on, which is little where there are none.
with unseen as materialized (
    select id
      from inventory_log
     where xid >= pg_snapshot_xmin(pg_current_snapshot())
       and not pg_visible_in_snapshot(xid, pg_current_snapshot()))
select coalesce(max(id), 0) from unseen
