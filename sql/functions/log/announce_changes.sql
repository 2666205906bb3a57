-- announce_changes(product_ids): wakes the sources that sleep, if there are any.
-- A sleeping source holds the advisory lock 495890817899, a number of ours, in shared mode. NOTIFY locks
-- the whole database at commit and costs three quarters of the commits per second, so this function
-- calls it only while a source sleeps. The row notify_mode of stream_settings changes that:
--   always  other programs listen, too
--   never   transactions are prepared (two-phase commit), which Postgres refuses after a NOTIFY: a source
--           then finds changes by reading, within STREAM_SAFETY_READ_SECONDS
-- The payload is a hint: a JSON array of product ids, or ["*"] if the array would be too long.
-- Locks: the advisory lock, only for the moment of the check.
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
