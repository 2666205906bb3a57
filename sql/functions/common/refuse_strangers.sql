-- refuse_strangers(): refuses a command to callers who may not change products themselves. Commands run
-- with the rights of the schema's owner (SECURITY DEFINER), so that a till needs no rights on
-- reservations, orders and the log; without this check, everybody who may connect could call them. The
-- caller is the role that SET ROLE has set, or else session_user.
-- Locks: none.
-- Raises: 42501 (insufficient_privilege).
create or replace function refuse_strangers() returns void
language plpgsql stable
set search_path from current
as $$
declare
    caller text := coalesce(nullif(current_setting('role'), 'none'), session_user);
begin
    if not has_any_column_privilege(caller, 'products'::regclass, 'update') then
        raise exception '% may not change stock', caller
            using errcode = 'insufficient_privilege',
                  hint = 'Grant it stream_server_seller, or UPDATE on products (sql/roles.sql).';
    end if;
end
$$;
