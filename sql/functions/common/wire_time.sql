-- wire_time(moment): ISO 8601 in UTC, to the millisecond, as everywhere in the API.
create or replace function wire_time(moment timestamptz) returns text
language sql stable
return to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
