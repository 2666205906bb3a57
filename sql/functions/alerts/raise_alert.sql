-- raise_alert(product_id, variant_id, level, message [, source]): opens an alert; returns its id. Each
-- product or variant (or source) has at most one open alert per level. To raise it again with the same
-- message changes nothing. A different message is news: the alert takes the message and has to be
-- acknowledged again. A change is announced on the channel stock_alerts, with the alert's id.
-- Locks: the open alert's row.
-- Raises: 23503 if the product or variant does not exist, 23514 if the level does not exist, 42501
-- (refuse_strangers).
create or replace function raise_alert(
    product_id text, variant_id text, level text, message text, source text default null)
returns bigint
language plpgsql
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    raised bigint;
begin
    perform refuse_strangers();
    insert into stock_alerts as a (product_id, variant_id, source, level, message)
    values (raise_alert.product_id, raise_alert.variant_id, raise_alert.source,
            raise_alert.level, raise_alert.message)
        on conflict (product_id, variant_id, source, level) where closed_at is null
        do update set message = excluded.message, acknowledged_at = null, acknowledged_by = null,
                      changed_xid = pg_current_xact_id()
        where a.message <> excluded.message
    returning a.id into raised;
    if raised is null then
        return (select a.id from stock_alerts a
                 where a.product_id is not distinct from raise_alert.product_id
                   and a.variant_id is not distinct from raise_alert.variant_id
                   and a.source is not distinct from raise_alert.source
                   and a.level = raise_alert.level
                   and a.closed_at is null);
    end if;
    perform announce_alert(raised);
    return raised;
end
$$;
