-- The log since a snapshot $1: what it did not see, together with the snapshot and the epoch
-- of this very read. One row with nulls if there is nothing new. At most $2 rows.
with s as materialized (
    select pg_current_snapshot() as seen, (select epoch from stream_epoch) as epoch)
select s.seen::text, s.epoch, l.*
  from s
  left join lateral (
    select id, xid::text::bigint as xid, product_id, variant_id, version, created_at,
           name_after, status_after, price_after, max_after, sold_after, reserved_after,
           threshold_after
      from inventory_log
     where xid >= pg_snapshot_xmax($1::text::pg_snapshot)
    union all
    select id, xid::text::bigint, product_id, variant_id, version, created_at,
           name_after, status_after, price_after, max_after, sold_after, reserved_after,
           threshold_after
      from inventory_log
     where xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot)))
  ) l on true
 limit $2
