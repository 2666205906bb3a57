-- Without a primary key, UPDATE and DELETE fail as soon as somebody publishes all tables for logical
-- replication; and the unique constraint has a column that may be NULL, so it cannot be the identity.
alter table order_lines add column id bigint generated always as identity primary key;
