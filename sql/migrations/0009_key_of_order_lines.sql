-- Each statement is a transaction of its own.
-- Without a primary key, UPDATE and DELETE fail as soon as somebody publishes all tables for logical
-- replication; and the unique constraint has a column that may be NULL, so it cannot be the identity.
-- A column that has a number in each row from the start would rewrite the table and stop all selling
-- meanwhile. So new rows get theirs by a default, old ones in portions, and the index is built beside.

create sequence if not exists order_line_ids;

-- The functions of the release before insert with the rights of whoever calls them.
grant usage on sequence order_line_ids to public;

-- The replica identity is for a database where all tables are published already.
alter table order_lines
    add column if not exists id bigint,
    alter column id set default nextval('order_line_ids'),
    replica identity full;

-- Again, until there is none: a row that is updated meanwhile moves to where this has been.
do $$
declare
    portion constant bigint := 50;  -- blocks
    first bigint;
    blocks bigint;
begin
    while exists (select from order_lines where id is null) loop
        first := 0;
        blocks := pg_relation_size('order_lines') / current_setting('block_size')::bigint;
        while first < blocks loop
            update order_lines set id = default
             where ctid >= format('(%s,0)', first)::tid
               and ctid < format('(%s,0)', first + portion)::tid
               and id is null;
            commit;
            first := first + portion;
        end loop;
    end loop;
end
$$;

alter table order_lines
    drop constraint if exists order_lines_have_ids,
    add constraint order_lines_have_ids check (id is not null) not valid;

alter table order_lines validate constraint order_lines_have_ids;

drop index concurrently if exists order_lines_pkey;

create unique index concurrently order_lines_pkey on order_lines (id);

-- Nothing here reads the table: the constraint says that there is no NULL.
do $$
begin
    alter table order_lines alter column id set not null;
    alter table order_lines
        add constraint order_lines_pkey primary key using index order_lines_pkey,
        drop constraint order_lines_have_ids,
        alter column id drop default,
        replica identity default;
    execute format('alter table order_lines alter column id'
                   ' add generated always as identity (start with %s)',
                   nextval('order_line_ids'));
    drop sequence order_line_ids;
end
$$;
