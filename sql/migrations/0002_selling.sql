-- Selling: holds of stock, orders, and what makes a repeated call harmless.

-- What a cart asks for, summed: `variant_id` NULL for a product without variants.
create type stock_line as (product_id text, variant_id text, quantity integer);

-- How much a product's or variant's sold and reserved quantities change.
create type stock_move as (product_id text, variant_id text, sold integer, reserved integer);

-- What could be taken of one line: `available` units, of which it asks for `granted`. Cents.
create type stock_offer as (product_id text, variant_id text, requested integer,
                            available integer, granted integer, unit_price integer);

-- A hold on stock. Whoever has the token has the hold, so tokens stay out of the log: its
-- reference is `reservation <id>`.
create table reservations (
    id             bigint generated always as identity primary key,
    token          text not null unique default gen_random_uuid()::text,
    -- Names the shopper's checkout: the same one again replaces its own hold.
    checkout_token text not null
                   constraint reservations_checkout_is_printable
                   check (checkout_token ~ '^[^[:cntrl:]]{1,200}$'),
    status         text not null default 'active'
                   constraint reservations_status_is_known
                   check (status in ('active', 'converted', 'released', 'expired')),
    created_at     timestamptz not null default clock_timestamp(),
    expires_at     timestamptz not null,
    -- It may be extended once.
    extended_at    timestamptz,
    ended_at       timestamptz,
    constraint reservations_ended_unless_active check ((status = 'active') = (ended_at is null))
) with (fillfactor = 80);

create unique index reservations_one_a_checkout
    on reservations (checkout_token) where status = 'active';
create index reservations_due on reservations (expires_at) where status = 'active';

create table reservation_lines (
    reservation_id bigint not null references reservations (id),
    product_id     text not null references products (id),
    variant_id     text,
    quantity       integer not null
                   constraint reservation_lines_quantity_is_positive check (quantity > 0),
    foreign key (product_id, variant_id) references variants (product_id, id),
    unique nulls not distinct (reservation_id, product_id, variant_id)
);

create table orders (
    id                bigint generated always as identity primary key,
    -- NULL: bought directly
    reservation_id    bigint unique references reservations (id),
    -- Names the payment, Stripe's `pi_…` for example: one payment is one order.
    payment_reference text unique
                      constraint orders_payment_is_printable
                      check (payment_reference ~ '^[^[:cntrl:]]{1,200}$'),
    -- shortfall: paid, but not all of it could be taken from stock
    status            text not null default 'paid'
                      constraint orders_status_is_known
                      check (status in ('paid', 'shortfall', 'refunded', 'cancelled')),
    created_by        text not null,
    created_at        timestamptz not null default clock_timestamp(),
    updated_at        timestamptz not null default clock_timestamp()
);

create index orders_short on orders (id) where status = 'shortfall';

create table order_lines (
    order_id        bigint not null references orders (id),
    product_id      text not null references products (id),
    variant_id      text,
    quantity        integer not null
                    constraint order_lines_quantity_is_positive check (quantity > 0),
    -- units that are sold to this order now: fewer in a shortfall, none once given back
    filled_quantity integer not null default 0
                    constraint order_lines_filled_is_possible
                    check (filled_quantity between 0 and quantity),
    -- cents, as it was when the order was made
    unit_price      integer not null
                    constraint order_lines_price_is_not_negative check (unit_price >= 0),
    foreign key (product_id, variant_id) references variants (product_id, id),
    unique nulls not distinct (order_id, product_id, variant_id)
);

-- Each event that a payment provider has sent us, once, and what became of it. No personal data.
create table webhook_events (
    id          text primary key
                constraint webhook_events_id_is_printable check (id ~ '^[^[:cntrl:]]{1,255}$'),
    type        text not null,
    reference   text,
    -- when the newest delivery was signed, in seconds since 1970: one that is not newer is a replay
    signed_at   bigint not null,
    outcome     text not null default 'received',
    received_at timestamptz not null default clock_timestamp()
);

create index webhook_events_by_reference on webhook_events (reference);
create index webhook_events_by_age on webhook_events (received_at);

-- The answer to a request that had an Idempotency-Key, for when it comes again.
create table idempotency_keys (
    actor       text not null,
    key         text not null
                constraint idempotency_keys_key_is_printable check (key ~ '^[^[:cntrl:]]{1,200}$'),
    -- sha256 of the method, the path and the body
    fingerprint text not null,
    status      smallint,
    body        text,
    created_at  timestamptz not null default clock_timestamp(),
    primary key (actor, key)
);

create index idempotency_keys_by_age on idempotency_keys (created_at);
