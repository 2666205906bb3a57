-- first_id_since(of_table, moment): the first id of a table from which on no row is older than a moment,
-- found by binary search. The table's ids rise with `created_at`, or nearly so: two rows can be in the
-- wrong order if one was written while the statement that wrote the other still ran.
-- Locks: none.
create or replace function first_id_since(of_table regclass, moment timestamptz) returns bigint
language plpgsql stable
set search_path from current
as $$
declare
    low    bigint;
    high   bigint;
    middle bigint;
    each   bigint;
    at     timestamptz;
begin
    execute format('select min(id), max(id) + 1 from %s', of_table) into low, high;
    while low < high loop
        middle := low + (high - low) / 2;
        execute format('select id, created_at from %s where id >= $1 order by id limit 1', of_table)
           into each, at using middle;
        if at < moment then
            low := each + 1;
        else
            high := middle;
        end if;
    end loop;
    return low;
end
$$;
