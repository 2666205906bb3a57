-- What people and machines need who run the shop: bulk imports, counts of external systems,
-- alerts.

-- One row an import, dry runs and rejected ones too. It is written in transactions of its own
-- while the import runs, so that its progress can be seen; what the import does to the catalogue
-- and status 'completed' are one transaction.
create table import_batches (
    id              bigint generated always as identity primary key,
    name            text not null
                    constraint import_batches_name_is_not_empty check (name <> ''),
    format          text not null,
    -- of the file, as it came
    sha256          text not null
                    constraint import_batches_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes      bigint not null,
    actor           text not null,
    reason          text,
    is_dry_run      boolean not null default false,
    status          text not null default 'running'
                    constraint import_batches_status_is_known
                    check (status in ('running', 'completed', 'rejected', 'failed')),
    -- what it is doing, or was doing when it ended
    phase           text not null default 'reading'
                    constraint import_batches_phase_is_known
                    check (phase in ('reading', 'checking', 'writing')),
    bytes_read      bigint not null default 0,
    -- products and variants together, as are all counts of rows
    row_count       bigint not null default 0,
    created_count   bigint not null default 0,
    updated_count   bigint not null default 0,
    error_count     bigint not null default 0,
    -- the first of them: [{"line", "column", "reason", "id"}]
    errors          jsonb not null default '[]',
    started_at      timestamptz not null default now(),
    heard_at        timestamptz not null default now(),
    finished_at     timestamptz,
    constraint import_batches_end_once check ((status = 'running') = (finished_at is null))
);

create index import_batches_running on import_batches (started_at) where status = 'running';

-- External systems that report counts, and how far behind the newest report of each is.
create table sync_state (
    source           text primary key
                     constraint sync_state_source_is_printable
                     check (source ~ '^[^[:cntrl:]]{1,100}$'),
    -- when the newest of its counts was taken
    last_occurred_at timestamptz not null,
    last_received_at timestamptz not null default now(),
    -- of the last report that came, on its arrival
    last_delay       interval not null,
    -- NULL: the setting SYNC_LAG_MINUTES
    lag_limit        interval
                     constraint sync_state_lag_limit_is_positive
                     check (lag_limit > interval '0')
);

-- The newest count of each product or variant from each source.
create table sync_counts (
    source      text not null references sync_state (source),
    product_id  text not null references products (id),
    variant_id  text references variants (id),
    count       integer not null
                constraint sync_counts_count_is_not_negative check (count >= 0),
    occurred_at timestamptz not null,
    received_at timestamptz not null default now(),
    constraint sync_counts_one_each unique nulls not distinct (product_id, variant_id, source)
);

-- What somebody should look at. Of a product or variant: 'low' and 'out' while it is, 'back' when
-- it is no longer out, 'shortfall' for a paid order that could not be filled, 'sync' for a count
-- below what is sold and reserved. Of a source: 'lag' while its reports are late.
create table stock_alerts (
    id              bigint generated always as identity primary key,
    product_id      text references products (id),
    variant_id      text references variants (id),
    source          text,
    level           text not null
                    constraint stock_alerts_level_is_known
                    check (level in ('low', 'out', 'back', 'shortfall', 'sync', 'lag')),
    message         text not null,
    opened_at       timestamptz not null default clock_timestamp(),
    closed_at       timestamptz,
    acknowledged_at timestamptz,
    acknowledged_by text,
    -- The transaction that changed it last: readers with a snapshot find what they have not seen.
    changed_xid     xid8 not null default pg_current_xact_id(),
    constraint stock_alerts_have_a_subject check (num_nonnulls(product_id, source) >= 1),
    constraint stock_alerts_say_who_acknowledged
        check ((acknowledged_at is null) = (acknowledged_by is null))
);

create unique index stock_alerts_open
    on stock_alerts (product_id, variant_id, source, level) nulls not distinct
 where closed_at is null;
create index stock_alerts_by_time on stock_alerts (opened_at desc, id desc);
create index stock_alerts_closed on stock_alerts (closed_at) where closed_at is not null;

-- From now on triggers open alerts when something turns low or out; what is so already, is here.
insert into stock_alerts (product_id, variant_id, level, message)
select product_id, variant_id,
       case when available <= 0 then 'out' else 'low' end,
       case when available <= 0 then 'Sold Out' else format('Only %s remaining!', available) end
  from (select id as product_id, null as variant_id, available_quantity as available,
               low_stock_threshold
          from products where status = 'active'
        union all
        select v.product_id, v.id, v.available_quantity, v.low_stock_threshold
          from variants v where status = 'active') stock
 where available <= low_stock_threshold or available <= 0;
