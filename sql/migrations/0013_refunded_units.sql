-- Each statement is a transaction of its own.
-- Units of a line whose money went back. Of these, filled_quantity still has those that did not go back on
-- the shelf: they are lost, and stay sold.
alter table order_lines
    add column if not exists refunded_quantity integer not null default 0,
    drop constraint if exists order_lines_refunded_is_possible,
    add constraint order_lines_refunded_is_possible
        check (refunded_quantity between 0 and quantity) not valid;

alter table order_lines validate constraint order_lines_refunded_is_possible;
