-- stream_lineage(): which server this is, as `system/timeline/start`: the cluster's identifier, its
-- timeline (8 hex digits, another one after each promotion), when it was started (seconds since
-- 1970). It is constant for as long as a connection lives. What this Postgres does not tell is `?`.
-- The timeline is read from the name of the file that is written now: right after a promotion,
-- pg_control_checkpoint() still tells the old one.
-- Writes the row of stream_incarnation where it is missing and may be written; callers that come
-- at once find the same one. Locks nothing else.
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
        -- Without its primary key, the table is being restored: a second row would be in the way.
        insert into stream_incarnation default values on conflict (is_single) do nothing;
    exception when others then null;  -- or the database is read-only: whoever may write will
    end;
    return concat_ws('/', system, timeline, started);
end
$$;
