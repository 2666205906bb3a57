-- The log and orders can be forgotten by age. No index for it: ids rise with time, so the primary
-- keys find what is old (first_id_since), and those who write pay for nothing more.

create table if not exists stream_settings (
    name  text primary key,
    value text not null
);

-- It has a second parameter now; with both, a call with one argument would be ambiguous.
drop function if exists prune_inventory_log(interval);
