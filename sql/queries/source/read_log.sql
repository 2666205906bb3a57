-- The log since a snapshot $1: what it did not see, together with the snapshot and the history
-- of this very read. One row with nulls if there is nothing new. At most $2 rows.
-- Numbers of another cluster, which a dump brings along, are not news: above this read's own
-- snapshot nothing can be seen that is ours, and up to the id $3 such rows are told apart by id
-- (read_foreign.sql), for one day the numbers are given out here, too.
-- `+ 0`: the planner shall not take the index of ids, whose every row is above $3.
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
