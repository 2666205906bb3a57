-- The catalogue, its log and the epoch of its stream.
-- Ids are text, money is integer cents, quantities are units of stock.

create table products (
    id                  text primary key
                        constraint products_id_is_printable check (id ~ '^[^[:cntrl:]]{1,200}$'),
    name                text not null
                        constraint products_name_is_not_empty check (name <> ''),
    description         text not null default '',
    category            text not null default '',
    base_price          integer not null
                        constraint products_price_is_not_negative check (base_price >= 0),
    status              text not null default 'active'
                        constraint products_status_is_known
                        check (status in ('active', 'draft', 'discontinued')),
    requires_assembly   boolean not null default false,
    has_variants        boolean not null default false,
    -- NULL: unlimited
    max_quantity        integer
                        constraint products_max_is_not_negative check (max_quantity >= 0),
    sold_quantity       integer not null default 0
                        constraint products_sold_is_not_negative check (sold_quantity >= 0),
    reserved_quantity   integer not null default 0
                        constraint products_reserved_is_not_negative check (reserved_quantity >= 0),
    low_stock_threshold integer not null default 10
                        constraint products_threshold_is_not_negative
                        check (low_stock_threshold >= 0),
    max_per_order       integer
                        constraint products_max_per_order_is_positive check (max_per_order > 0),
    -- Counts every change of the product and of its variants, without a gap.
    version             bigint not null default 0,
    -- The transaction that made the change number `version`: tells a client that comes
    -- back with a snapshot whether it has seen this product's newest state.
    changed_xid         xid8 not null default pg_current_xact_id(),
    updated_at          timestamptz not null default now(),
    -- When it first was not a draft. What never was public is never told to the public.
    published_at        timestamptz,
    available_quantity  integer generated always as
                        (max_quantity - sold_quantity - reserved_quantity) stored,
    is_available        boolean generated always as
                        (status = 'active' and (max_quantity is null
                         or max_quantity - sold_quantity - reserved_quantity > 0)) stored,
    constraint products_not_oversold
        check (max_quantity is null or sold_quantity::bigint + reserved_quantity <= max_quantity)
) with (fillfactor = 70);

create index products_by_category on products (category, id);

create table variants (
    id                  text primary key
                        constraint variants_id_is_printable check (id ~ '^[^[:cntrl:]]{1,200}$'),
    product_id          text not null references products (id),
    variant_value       text not null
                        constraint variants_value_is_not_empty check (variant_value <> ''),
    sku                 text not null default '',
    -- cents; NULL: the product's
    price               integer
                        constraint variants_price_is_not_negative check (price >= 0),
    status              text not null default 'active'
                        constraint variants_status_is_known
                        check (status in ('active', 'draft', 'discontinued')),
    -- NULL: unlimited
    max_quantity        integer
                        constraint variants_max_is_not_negative check (max_quantity >= 0),
    sold_quantity       integer not null default 0
                        constraint variants_sold_is_not_negative check (sold_quantity >= 0),
    reserved_quantity   integer not null default 0
                        constraint variants_reserved_is_not_negative check (reserved_quantity >= 0),
    low_stock_threshold integer not null default 10
                        constraint variants_threshold_is_not_negative
                        check (low_stock_threshold >= 0),
    -- The product's version that this variant's last change took.
    version             bigint not null default 0,
    updated_at          timestamptz not null default now(),
    available_quantity  integer generated always as
                        (max_quantity - sold_quantity - reserved_quantity) stored,
    is_available        boolean generated always as
                        (status = 'active' and (max_quantity is null
                         or max_quantity - sold_quantity - reserved_quantity > 0)) stored,
    unique (product_id, id),
    constraint variants_not_oversold
        check (max_quantity is null or sold_quantity::bigint + reserved_quantity <= max_quantity)
) with (fillfactor = 70);

-- Append-only: what changed, when, by whom, why, and the row's state before and after.
-- It is also the stream: readers find new rows by their transaction (xid), never by id.
create table inventory_log (
    id              bigint generated always as identity primary key,
    xid             xid8 not null default pg_current_xact_id(),
    product_id      text not null,
    variant_id      text,
    version         bigint not null,
    operation       text not null,
    -- units added to (taken from) what is available; NULL where unlimited began or ended
    change          integer,
    max_before      integer,  max_after       integer,
    sold_before     integer,  sold_after      integer not null,
    reserved_before integer,  reserved_after  integer not null,
    available_before integer, available_after integer,
    threshold_before integer, threshold_after integer not null,
    price_before    integer,  price_after     integer,
    status_before   text,     status_after    text not null,
    name_before     text,     name_after      text not null,
    reason          text,
    note            text,
    actor           text not null,
    reference       text,
    idempotency_key text,
    batch_id        bigint,
    created_at      timestamptz not null default clock_timestamp()
);

create index inventory_log_by_xid on inventory_log (xid, id);
create unique index inventory_log_by_product on inventory_log (product_id, version);

-- One row: names the history that stream positions belong to. Renewed after a restore,
-- because transaction numbers start again from the backup's.
create table stream_epoch (
    is_single  boolean primary key default true check (is_single),
    epoch      text not null default left(md5(gen_random_uuid()::text), 8)
               constraint stream_epoch_is_hex check (epoch ~ '^[0-9a-f]{4,32}$'),
    renewed_at timestamptz not null default now()
);

insert into stream_epoch default values;
