"""The database that tests run in: not ours, as a shop's is.

The service has an ordinary role. It owns one schema, whose name must be quoted; the database is
somebody else's. In `public` lie tables of a shop's own with names like ours, all tables are
published for logical replication, and first in the role's search_path stand decoys: a table, a
function and a type for each of ours, which raise when they are touched. So nothing of ours can rely
on a path, on rights or on a free name that a shop does not give, and what is added later cannot
either.

With TEST_SURROUNDINGS=plain it is as a newcomer has it: the role owns the database, all lies in
`public`, nobody else is there.

With TEST_THROUGH=pgbouncer what tests give the service as DATABASE_URL leads through a PgBouncer in
transaction mode with fewer sessions than it has connections, and LISTEN_DATABASE_URL is set. A
test's own connections lead straight to Postgres.
"""

import os
from collections.abc import Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlsplit
from uuid import uuid4

import asyncpg

from stream_server.database import connections

Connection: TypeAlias = "asyncpg.Connection[Any]"  # generic in the stubs only

POOLED_SESSIONS: Final = 5
IS_POOLED: Final = os.environ.get("TEST_THROUGH") == "pgbouncer"
IS_PLAIN: Final = os.environ.get("TEST_SURROUNDINGS") == "plain"
SCHEMA: Final = "public" if IS_PLAIN else "Shop stock"
PASSWORD: Final = "open sesame"

FOREIGN: Final = """
create table public.products (sku varchar primary key, title text);
insert into public.products values ('own', 'Somebody else''s');
create table public.orders (number serial primary key, total numeric);
create table public.schema_migrations (version varchar primary key);
insert into public.schema_migrations values ('20240102030405');
create publication everything for all tables;
create schema decoys;
grant usage on schema decoys to public;
create function decoys.touched(what text) returns boolean language plpgsql as $$
begin
    raise exception 'a decoy was touched: %', what;
end $$;
"""

RELATIONS: Final = """
select c.relname,
       (select string_agg(format('null::%s as %I',
                                 case when t.typnamespace = 'pg_catalog'::regnamespace
                                      then format_type(t.oid, null) else 'text' end, a.attname),
                          ', ' order by a.attnum)
          from pg_attribute a join pg_type t on t.oid = a.atttypid
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns
  from pg_class c
 where c.relnamespace = $1::regnamespace and c.relkind in ('r', 'v')
 order by 1
"""
TYPES: Final = """
select typname from pg_type t join pg_class c on c.oid = t.typrelid and c.relkind = 'c'
 where t.typnamespace = $1::regnamespace
"""
FUNCTIONS: Final = """
select p.proname,
       (select string_agg(format_type(a, null), ', ' order by n)
          from unnest(p.proargtypes) with ordinality given (a, n)) as parameters,
       prorettype = 'trigger'::regtype as is_trigger,
       exists (select from unnest(p.proargtypes) a join pg_type t on t.oid = a
                where t.typnamespace = $1::regnamespace
                   or t.typelem in (select oid from pg_type
                                     where typnamespace = $1::regnamespace)) as wants_types
  from pg_proc p
 where p.pronamespace = $1::regnamespace
 order by 1
"""


class Surroundings:
    """One role, and databases in which it finds itself."""

    def __init__(self, admin_url: str) -> None:
        self._admin_url = admin_url
        self.role = f"shop_{uuid4().hex[:12]}"

    def url(self, database: str) -> str:
        """As the service gets it."""
        place = urlsplit(self._admin_url)
        host = place.netloc.rpartition("@")[2]
        netloc = f"{self.role}:{quote(PASSWORD)}@{host}"
        options = [place.query] if place.query else []
        if not IS_PLAIN:
            options.append(f"schema={quote(SCHEMA)}")
        return place._replace(netloc=netloc, path=f"/{database}", query="&".join(options)).geturl()

    def admin_url(self, database: str) -> str:
        """As whoever runs the server has it: a superuser."""
        return urlsplit(self._admin_url)._replace(path=f"/{database}").geturl()

    async def settle(self) -> None:
        """Make the role."""
        await self.administer(f"create role {self.role} login password '{PASSWORD}'")
        if not IS_PLAIN:
            await self.administer(f"alter role {self.role} set search_path = decoys, public")

    async def leave(self) -> None:
        """Once its databases are gone."""
        await self.administer(f"drop role {self.role}")

    async def furnish(self, database: str) -> None:
        """What is there before we come."""
        if IS_PLAIN:
            await self.administer(f'alter database "{database}" owner to {self.role}')
            return
        connection: Connection = await asyncpg.connect(self.admin_url(database))
        try:
            await connection.execute(FOREIGN)
            await connection.execute(f'create schema "{SCHEMA}" authorization {self.role}')
        finally:
            await connection.close()

    async def decoys(self, database: str) -> Sequence[tuple[str, bool]]:
        """Statements that make a decoy for each thing of ours in this database; and whether each
        can be made only where ours are."""
        if IS_PLAIN:
            return []
        connection: Connection = await asyncpg.connect(self.admin_url(database))
        schema = f'"{SCHEMA}"'
        try:
            made = [
                (
                    f'create view decoys."{row["relname"]}" as select {row["columns"]}'
                    f" where decoys.touched('{row['relname']}');"
                    f' grant all on decoys."{row["relname"]}" to public',
                    False,
                )
                for row in await connection.fetch(RELATIONS, schema)
            ]
            made += [
                (f'create domain decoys."{row["typname"]}" as text check (false)', False)
                for row in await connection.fetch(TYPES, schema)
            ]
            made += [
                (
                    f"create function decoys.{row['proname']}({row['parameters'] or ''}) returns"
                    f" {'trigger' if row['is_trigger'] else 'void'} language plpgsql as $$ begin"
                    f" perform decoys.touched('{row['proname']}'); end $$",
                    row["wants_types"],
                )
                for row in await connection.fetch(FUNCTIONS, schema)
            ]
        finally:
            await connection.close()
        return made

    async def set_up(self, database: str, statements: Sequence[str]) -> None:
        """Run statements there, as the superuser."""
        connection: Connection = await asyncpg.connect(self.admin_url(database))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def administer(self, statement: str) -> None:
        connection: Connection = await asyncpg.connect(self._admin_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


async def opened(url: str) -> Connection:
    """A connection as psql would have it, after `set search_path` to where our tables are."""
    return await connections.connect(straight(url), application_name="a test")


def straight(url: str) -> str:
    """The same database without a pooler on the way."""
    if not IS_POOLED:
        return url
    pooled, direct = urlsplit(url), urlsplit(os.environ["LISTEN_DATABASE_URL"])
    netloc = f"{pooled.netloc.rpartition('@')[0]}@{direct.netloc.rpartition('@')[2]}"
    query = "&".join(filter(None, [pooled.query, direct.query]))
    return pooled._replace(netloc=netloc, query=query).geturl()


def in_schema(url: str, schema: str) -> str:
    """The URL of another schema of the same database."""
    place = urlsplit(url)
    options = [each for each in place.query.split("&") if each and not each.startswith("schema=")]
    return place._replace(query="&".join([*options, f"schema={quote(schema)}"])).geturl()


def psql_url(url: str) -> str:
    """The same for psql, whose URLs know no `schema`."""
    place = urlsplit(straight(url))
    options = [each for each in place.query.split("&") if each and not each.startswith("schema=")]
    if not IS_PLAIN:
        path = f'-csearch_path="{SCHEMA}"'.replace(" ", "\\ ")
        options.append(f"options={quote(path)}")
    return place._replace(query="&".join(options)).geturl()
