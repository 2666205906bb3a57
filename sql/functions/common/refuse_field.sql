-- refuse_field(field, expected): raises SS001 with the message "<field> must be <expected>".
-- Locks: none.
create or replace function refuse_field(field text, expected text) returns void
language plpgsql immutable
set search_path from current
as $$
begin
    raise exception '% must be %', field, expected
        using errcode = 'SS001',
              detail = jsonb_build_object('field', field, 'expected', expected);
end
$$;
