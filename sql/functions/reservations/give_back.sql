-- give_back(ids, new_status, moment, as_operation): ends these reservations, which must be active, and
-- gives back the units that they hold. The log names the operation `as_operation`.
-- The caller has locked the reservations, their products and their variants (lock_stock). Locks: nothing
-- more.
create or replace function give_back(
    ids bigint[], new_status text, moment timestamptz, as_operation text
) returns void
language plpgsql
set search_path from current
as $$
declare
    operation text := current_setting('stream_server.operation', true);
    reference text := current_setting('stream_server.reference', true);
begin
    perform set_config('stream_server.operation', as_operation, true),
            set_config('stream_server.reference', '', true);
    if cardinality(ids) = 1 then
        perform set_config('stream_server.reference', 'reservation ' || ids[1], true);
    end if;
    update reservations set status = new_status, ended_at = moment where id = any (ids);
    perform move_stock(array(select (product_id, variant_id, 0, -quantity)::stock_move
                               from unnest(lines_of_reservations(ids))));
    perform set_config('stream_server.operation', coalesce(operation, ''), true),
            set_config('stream_server.reference', coalesce(reference, ''), true);
end
$$;
