-- What Postgres itself forgets whenever it may have forgotten commits: unlogged tables are emptied
-- after every crash, also one that the postmaster outlives, and are empty on a promoted standby.
-- One row; whoever finds it missing writes it (stream_lineage). It is part of the stream's epoch.
create unlogged table stream_incarnation (
    is_single boolean primary key default true check (is_single),
    token     text not null default left(md5(gen_random_uuid()::text), 12),
    begun_at  timestamptz not null default now()
);
