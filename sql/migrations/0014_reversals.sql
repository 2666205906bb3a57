-- Money that goes back, or may: what the API and payment providers have said of it. It comes in any
-- order, before its order as well, so this is what is known; settle_reversals draws the conclusions.
create table reversals (
    -- The provider's: of a refund, a dispute, or the charge whose refunds are summed up. Of a refund
    -- that no provider knows, one of our own.
    id                text primary key
                      constraint reversals_id_is_printable check (id ~ '^[^[:cntrl:]]{1,255}$'),
    -- charge: the sum of its refunds, as the provider counts them
    kind              text not null
                      constraint reversals_kind_is_known
                      check (kind in ('refund', 'charge', 'dispute')),
    payment_reference text,
    -- NULL: there is none yet
    order_id          bigint references orders (id),
    -- in the currency's smallest unit; NULL: not said
    amount            bigint
                      constraint reversals_amount_is_not_negative check (amount >= 0),
    currency          text,
    -- of a charge: whether all of it was refunded
    is_all            boolean not null default false,
    status            text not null
                      constraint reversals_status_is_known
                      check (status in ('pending', 'succeeded', 'failed', 'open', 'won', 'lost')),
    reason            text,
    -- whether its units go back on the shelf
    restock           boolean not null default false,
    -- the units that it is for, as a cart; NULL: money only. Of a charge: those that were left when it
    -- closed the order
    lines             jsonb,
    is_applied        boolean not null default false,
    -- when the provider says that it was so, and when we heard of it
    occurred_at       timestamptz not null,
    recorded_at       timestamptz not null default clock_timestamp(),
    -- the status that an alert has told of
    alerted           text,
    -- of a refund that failed: what was to be refunded of the payment, with it
    owed              bigint
);

create index reversals_of_payments on reversals (payment_reference);
create index reversals_of_orders on reversals (order_id);
