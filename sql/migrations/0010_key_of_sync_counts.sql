-- Each statement is a transaction of its own.
-- Without a primary key, UPDATE and DELETE fail as soon as somebody publishes all tables for logical
-- replication; and the unique constraint has a column that may be NULL, so it cannot be the identity.
-- A column that has a number in each row from the start would rewrite the table and stop all selling
-- meanwhile. So new rows get theirs by a default, old ones in portions, and the index is built beside.

create sequence if not exists sync_count_ids;

-- The functions of the release before insert with the rights of whoever calls them.
grant usage on sequence sync_count_ids to public;

-- The replica identity is for a database where all tables are published already.
alter table sync_counts
    add column if not exists id bigint,
    alter column id set default nextval('sync_count_ids'),
    replica identity full;

-- Again, until there is none: a row that is updated meanwhile moves to where this has been.
do $$
declare
    portion constant bigint := 50;  -- blocks
    first bigint;
    blocks bigint;
begin
    while exists (select from sync_counts where id is null) loop
        first := 0;
        blocks := pg_relation_size('sync_counts') / current_setting('block_size')::bigint;
        while first < blocks loop
            update sync_counts set id = default
             where ctid >= format('(%s,0)', first)::tid
               and ctid < format('(%s,0)', first + portion)::tid
               and id is null;
            commit;
            first := first + portion;
        end loop;
    end loop;
end
$$;

alter table sync_counts
    drop constraint if exists sync_counts_have_ids,
    add constraint sync_counts_have_ids check (id is not null) not valid;

alter table sync_counts validate constraint sync_counts_have_ids;

drop index concurrently if exists sync_counts_pkey;

create unique index concurrently sync_counts_pkey on sync_counts (id);

-- Nothing here reads the table: the constraint says that there is no NULL.
do $$
begin
    alter table sync_counts alter column id set not null;
    alter table sync_counts
        add constraint sync_counts_pkey primary key using index sync_counts_pkey,
        drop constraint sync_counts_have_ids,
        alter column id drop default,
        replica identity default;
    execute format('alter table sync_counts alter column id'
                   ' add generated always as identity (start with %s)',
                   nextval('sync_count_ids'));
    drop sequence sync_count_ids;
end
$$;
