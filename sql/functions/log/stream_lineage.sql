-- stream_lineage(): which server this is, as `system/timeline/start`: the cluster's identifier; its
-- timeline (8 hex digits, another one after each promotion); when the server was started (seconds since
-- 1970). It stays the same while a connection lives. A part that this Postgres does not tell is `?`.
-- The timeline is read from the name of the current WAL file: right after a promotion,
-- pg_control_checkpoint() still returns the old one.
-- Writes the row of stream_incarnation if it is missing and the database can be written; callers at the
-- same time find the same row. Locks: nothing else.
create or replace function stream_lineage() returns text
language plpgsql security definer set search_path from current as $$
declare
    system   text := '?';
    timeline text := '?';
    started  text := '?';
begin
    begin
        system := (select system_identifier::text from pg_control_system());
    exception when others then null;
    end;
    begin
        timeline := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    exception when others then null;
    end;
    begin
        started := extract(epoch from pg_postmaster_start_time())::text;
    exception when others then null;
    end;
    begin
        -- A table without its primary key is being restored: a second row would be in the way.
        insert into stream_incarnation default values on conflict (is_single) do nothing;
    exception when others then null;  -- a read-only database: a caller that may write adds the row
    end;
    return concat_ws('/', system, timeline, started);
end
$$;
