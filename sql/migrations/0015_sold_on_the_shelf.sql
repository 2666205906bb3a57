-- Each statement is a transaction of its own.
-- How long after a sale units of a source still lie where it counts: it counts them, and does not say how
-- many of them are sold. NULL: sold units have gone, or it says so.
alter table sync_state
    add column if not exists sends_within interval,
    drop constraint if exists sync_state_sends_within_is_positive,
    add constraint sync_state_sends_within_is_positive
        check (sends_within > interval '0') not valid;

alter table sync_state validate constraint sync_state_sends_within_is_positive;
