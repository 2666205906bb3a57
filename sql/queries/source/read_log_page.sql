-- A page of the log between two snapshots: rows that $2 sees and $1 did not see, after (xid, id) =
-- ($3, $4), at most $5 rows, in the order of (xid, id). Only rows above the id $6, see read_log.sql.
select id, xid::text::bigint as xid, product_id, variant_id, version, created_at,
       name_after, status_after, price_after, max_after, sold_after, reserved_after,
       threshold_after
  from inventory_log
 where xid >= pg_snapshot_xmin($1::text::pg_snapshot)
   and xid < pg_snapshot_xmax($2::text::pg_snapshot)
   and not pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
   and pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
   and (xid, id) > ($3::text::xid8, $4::bigint)
   and id + 0 > $6
 order by inventory_log.xid, id
 limit $5
