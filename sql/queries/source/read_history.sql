-- The snapshot of this read, and the history that it belongs to: with what stream_lineage() says,
-- whatever would change if commits were lost or a backup were put back. The row's xmin is another
-- one when a dump was restored, even into the same database. NULL where there is no epoch (yet).
select pg_current_snapshot()::text as seen,
       (select concat_ws('/', epoch, xmin, (select token from stream_incarnation))
          from stream_epoch) as history
