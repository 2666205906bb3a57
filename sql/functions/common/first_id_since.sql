-- first_id_since(of_table, moment): the id from which on the rows of a table are not older than a
-- moment, found by halving. The table has ids that rise with `created_at`, or nearly so: where a row
-- was written while another one's statement still ran, the two may stand the other way round.
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
