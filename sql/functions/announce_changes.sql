-- announce_changes(product_ids): wakes the sources that sleep, if any.
-- A sleeping source holds the advisory lock 495890817899 (the bytes of "stock") shared. NOTIFY
-- takes a lock on the whole database at commit and costs three quarters of the commits a second,
-- so it is only called while somebody sleeps, or always if the database says
-- `alter database … set stream_server.notify_mode = 'always'` (other programs listen, too).
-- The payload is a hint: a JSON array of product ids, ["*"] if that would be too long.
-- Locks: the advisory lock, for the moment of the question.
create or replace function announce_changes(product_ids text[]) returns void
language plpgsql as $$
declare
    payload text;
begin
    if current_setting('stream_server.notify_mode', true) is distinct from 'always'
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
