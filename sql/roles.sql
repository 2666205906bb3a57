-- Three roles, for shops that do not want the service to own its tables. Run this file with psql, as the
-- schema's owner with the right to create roles; run it again after each `stream-server migrate`:
--
--     psql --variable=schema=stock --file=sql/roles.sql "$OWNER_URL"
--     psql --command='grant stream_server_web to shop_web' "$OWNER_URL"
--
--   stream_server_web      for `serve` and `import`
--   stream_server_worker   for `worker`
--   stream_server_seller   for a till or a backend of the shop: it changes products and variants, and
--                          calls reserve_stock, complete_order and the other commands. It can neither
--                          read the reservations and orders of others, nor write the log
--
-- `migrate` needs the owner. A role without any of these that may update products may do whatever a
-- seller may do.
\set ON_ERROR_STOP on
\if :{?schema}
\else
    \set schema public
\endif

select format('create role %I nologin', name)
  from unnest(array['stream_server_seller', 'stream_server_web', 'stream_server_worker']) name
 where not exists (select from pg_roles where rolname = name)
\gexec

begin;
set local search_path = :"schema", pg_temp;

grant usage on schema :"schema"
   to stream_server_seller, stream_server_web, stream_server_worker;

grant select, update on products, variants to stream_server_seller;

grant select on all tables in schema :"schema" to stream_server_web, stream_server_worker;
revoke select on reservations, reservation_lines from stream_server_web, stream_server_worker;
grant insert, update on products, variants, import_batches to stream_server_web;
grant insert, update on idempotency_keys, webhook_events to stream_server_web;

-- The functions that end reservations and log missed changes refuse a caller who may not change products.
grant update on products to stream_server_worker;
grant update on import_batches to stream_server_worker;
grant delete on stock_alerts to stream_server_worker;
select format('grant execute on function %s to stream_server_worker', oid::regprocedure)
  from pg_proc
 where pronamespace = to_regnamespace(quote_ident(:'schema')) and proname like 'prune\_%'
\gexec
commit;
