-- Each statement is a transaction of its own.
-- What a unit cost when it was held, in the currency's smallest unit: the order that the hold becomes has
-- that price. NULL in a hold of the release before, whose price is the product's.
alter table reservation_lines
    add column if not exists unit_price integer,
    drop constraint if exists reservation_lines_price_is_not_negative,
    add constraint reservation_lines_price_is_not_negative check (unit_price >= 0) not valid;

alter table reservation_lines validate constraint reservation_lines_price_is_not_negative;
