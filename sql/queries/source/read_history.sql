-- The snapshot of this read, and the history that it belongs to. With stream_lineage(), the history has
-- everything that changes if commits were lost or a backup was restored. The row's xmin changes if a dump
-- was restored, even into the same database. NULL if there is no epoch (yet).
select pg_current_snapshot()::text as seen,
       (select concat_ws('/', epoch, xmin, (select token from stream_incarnation))
          from stream_epoch) as history
