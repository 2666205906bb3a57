-- The log rows that a snapshot $1 did not see, with the snapshot and the history of this read. If there
-- are no new rows, one row with NULLs. At most $2 rows.
-- A dump can bring rows with the transaction numbers of another cluster, which are not news. Above this
-- read's own snapshot, every visible row is such a row. Below it, because this cluster will one day give
-- out the same numbers, such rows are recognised by their id: they are those up to the id $3
-- (read_foreign.sql).
-- `+ 0` stops the planner from using the index of ids, because nearly every id is above $3.
with s as materialized (
    select pg_current_snapshot() as seen,
           (select concat_ws('/', epoch, xmin, (select token from stream_incarnation))
              from stream_epoch) as history)
select s.seen::text, s.history, l.*
  from s
  left join lateral (
    select id, xid::text::bigint as xid, product_id, variant_id, version, created_at,
           name_after, status_after, price_after, max_after, sold_after, reserved_after,
           threshold_after
      from inventory_log
     where xid >= pg_snapshot_xmax($1::text::pg_snapshot)
       and xid < pg_snapshot_xmax(s.seen)
       and id + 0 > $3
    union all
    select id, xid::text::bigint, product_id, variant_id, version, created_at,
           name_after, status_after, price_after, max_after, sold_after, reserved_after,
           threshold_after
      from inventory_log
     where xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot)))
       and id + 0 > $3
  ) l on true
 limit $2
