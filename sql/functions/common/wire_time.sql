-- wire_time(moment): a time in ISO 8601, in UTC, with milliseconds, as everywhere in the API.
-- Locks: none.
create or replace function wire_time(moment timestamptz) returns text
language sql stable
return to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
