-- announce_changes(product_ids): wakes the sources that sleep, if any.
-- A sleeping source holds the advisory lock 495890817899, a number of ours, shared. NOTIFY
-- takes a lock on the whole database at commit and costs three quarters of the commits a second,
-- so it is only called while somebody sleeps. The row notify_mode of stream_settings says otherwise:
-- `always` where other programs listen, too; `never` where transactions are prepared (two-phase
-- commit), which Postgres refuses after a NOTIFY: a source then finds changes by reading, within
-- STREAM_SAFETY_READ_SECONDS.
-- The payload is a hint: a JSON array of product ids, ["*"] if that would be too long.
-- Locks: the advisory lock, for the moment of the question.
create or replace function announce_changes(product_ids text[]) returns void
language plpgsql
set search_path from current
as $$
declare
    mode text;
    payload text;
begin
    select value into mode from stream_settings where name = 'notify_mode';
    if mode = 'never'
       or mode is distinct from 'always'
          and (case when pg_try_advisory_lock(495890817899)
                    then pg_advisory_unlock(495890817899)
                    else false end) then
        return;
    end if;
    payload := to_json(product_ids)::text;
    if octet_length(payload) > 7900 then
        payload := '["*"]';
    end if;
    perform pg_notify('stock_changes', payload);
end
$$;
