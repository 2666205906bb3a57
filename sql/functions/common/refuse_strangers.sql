-- refuse_strangers(): lets only those call a command who may change products by themselves. Commands
-- run with the rights of the schema's owner (SECURITY DEFINER), so that a till needs none on holds,
-- orders and the log; everybody who may connect could call them. The caller is the role that
-- SET ROLE named, else session_user.
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
