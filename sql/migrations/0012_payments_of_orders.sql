-- Each statement is a transaction of its own.
-- What the payment provider says was paid for an order, all in all, and what went back of it: in the
-- currency's smallest unit. amount is NULL where nobody has said it; currency is a code of ISO 4217.
alter table orders
    add column if not exists amount bigint,
    add column if not exists currency text,
    add column if not exists refunded_amount bigint not null default 0,
    drop constraint if exists orders_amounts_are_not_negative,
    add constraint orders_amounts_are_not_negative
        check (amount >= 0 and refunded_amount >= 0) not valid;

alter table orders validate constraint orders_amounts_are_not_negative;
