"""Brings a database to this release's schema, from the files in `sql/`.

- `migrations/NNNN_*.sql` are append-only: each is applied once, in order, and never edited
  afterwards. On a database that has none of them all are applied in one transaction, so that an
  interrupted first run leaves nothing; later ones each in their own, so that none holds its locks
  for as long as the others take. One that begins with STEPWISE has a transaction for each of its
  statements, which empty lines divide: it may fill a big table in portions and build an index
  CONCURRENTLY. Interrupted, it begins anew, so each of its statements may run twice but the last,
  which shares its transaction with the file's row.
- `functions/*/*.sql`, then `triggers.sql`, are repeatable (`create or replace`): those whose text
  has changed are applied again, all in one transaction, after the migrations. Functions are known
  by their files' names, whichever folder they lie in. A function whose parameters have changed is
  another function to Postgres: the one before is dropped if a call could mean either. If not, it
  stays, for whoever is in the middle of a function that calls it. A function whose file is gone is
  dropped by the second `migrate` that applies functions without it, for the same reason.

Everything lies in one schema, that of the URL's option `schema`; nothing outside of it is read or
written. `stream_server_migrations` keeps each file's name and checksum, and for a function which
parameters it has. A file's row is written first, in the file's own transaction: a racing migrator
waits for that row, then sees it and does not apply the file a second time. The advisory lock before
it is only there so that the others wait without blocking each other.

Writers go on meanwhile. A transaction that has to wait for a lock gives way after a fifth of a
second and is tried again: behind a migration that waits for a table, everybody would wait.
`sql/README.md` says how to write a migration that nobody notices.

Wants a connection of its own, not one through a pooler in transaction mode.
"""

import asyncio
import hashlib
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import asyncpg

from stream_server.database import connections, urls
from stream_server.database.errors import DRIVER_ERRORS, translate
from stream_server.database.poolers import connect_for_session
from stream_server.errors import (
    DatabaseUnavailable,
    InvalidSettings,
    MigrationChanged,
    MigrationFailed,
    MigrationLocked,
    SchemaBehind,
    SchemaError,
    SchemaOccupied,
    SchemaTooNew,
    UnsupportedPostgres,
)

__all__ = ["check", "migrate", "sql_folder", "until_current"]

logger = logging.getLogger(__name__)

Connection: TypeAlias = "asyncpg.Connection[Any]"  # generic in the stubs only
Sleep = Callable[[float], Awaitable[object]]
T = TypeVar("T")

OLDEST_POSTGRES: Final = 15
LOCK: Final = int.from_bytes(b"ss-migra")  # of pg_advisory_lock; unlikely to be anybody else's
PATIENCE: Final = 120.0  # seconds to wait for another migrator, or for a table
PARAMETERS: Final = {
    "client_min_messages": "warning",
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "0",
    "statement_timeout": "0",
}
# In triggers.sql, three such waits may follow upon each other. And less than deadlock_timeout: we
# give way, not those who sell.
LIMIT_WAITS: Final = """
select set_config('lock_timeout', greatest(1, least(200, setting::integer / 2))::text, false)
  from pg_settings where name = 'deadlock_timeout'
"""
STEPWISE: Final = "-- Each statement is a transaction of its own.\n"

# Errors that any file would meet: no connection, read-only, full, cancelled, broken.
NOT_THE_FILE: Final = ("08", "25006", "53", "57", "58")

TABLE: Final = """
create table if not exists stream_server_migrations (
    name       text primary key,
    checksum   text not null,
    -- of a function: the parameters of each that the file makes
    makes      text[] not null default '{}',
    applied_at timestamptz not null default now()
)"""
# What the releases before 0.1 called it, in a database that was theirs alone.
ADOPT: Final = """
alter table schema_migrations rename to stream_server_migrations;
alter table stream_server_migrations rename constraint schema_migrations_pkey
    to stream_server_migrations_pkey;
alter table stream_server_migrations add column makes text[] not null default '{}';
-- They would begin anew otherwise. So they see that the database is newer than they are.
create view schema_migrations as select name, checksum, applied_at from stream_server_migrations;
update stream_server_migrations m
   set makes = array(
       select pg_get_function_identity_arguments(p.oid) from pg_proc p
        where p.pronamespace = quote_ident(current_schema())::regnamespace
          and m.name = 'functions/' || p.proname || '.sql')
 where m.name like 'functions/%'
"""
MADE: Final = re.compile(
    r"^create (?:or replace )?(?:unlogged )?(?P<kind>table|view|type|function)"
    r" (?!if not exists)(?P<name>\w+)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    text: str
    schema: str

    @property
    def is_repeatable(self) -> bool:
        return not self.name.startswith("migrations/")

    @property
    def checksum(self) -> str:
        """A function has its schema in it, so it changes with the schema's name."""
        text = f"{self.schema}\n{self.text}" if self.is_repeatable else self.text
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def is_stepwise(self) -> bool:
        return self.text.startswith(STEPWISE)

    @property
    def whole(self) -> "_Step":
        return _Step(self.name, self.text)

    @property
    def at_once(self) -> "_Step":
        """For a database that nobody uses yet: all in one transaction."""
        text = self.text
        if self.is_stepwise:
            text = re.sub(r"\bconcurrently |^ *commit;\n", "", text, flags=re.MULTILINE)
        return _Step(self.name, text)

    @property
    def steps(self) -> Sequence["_Step"]:
        return [
            _Step(self.name, found[0], 1 + self.text.count("\n", 0, found.start()))
            for found in re.finditer(r"(?:.+\n?)+", self.text)
            if not re.fullmatch(r"(?:--.*\n?)+", found[0])
        ]

    @property
    def makes(self) -> set[tuple[str, str]]:
        """Kind and name of what the file makes, where it must not be there already."""
        return {(found["kind"], found["name"]) for found in MADE.finditer(self.text)}


@dataclass(frozen=True, slots=True)
class _Step:
    """What is sent to Postgres at once: a file, or a statement of it."""

    file: str
    text: str
    line: int = 1  # the text's first one in the file

    @property
    def is_concurrent(self) -> bool:
        return " concurrently " in self.text


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a database that has `applied` (name to checksum) still needs from `folder`."""

    migrations: Sequence[_File]
    repeatables: Sequence[_File]
    is_first: bool

    @property
    def files(self) -> Sequence[_File]:
        return (*self.migrations, *self.repeatables)

    @property
    def transactions(self) -> Sequence[Sequence[_File]]:
        if self.is_first:
            return [self.files]
        return [*([file] for file in self.migrations), self.repeatables]

    @classmethod
    def of(cls, folder: Path, schema: str, applied: Mapping[str, str]) -> "_Plan":
        """Raises SchemaTooNew, MigrationChanged."""

        def read(path: Path, name: str) -> _File:
            return _File(name, path.read_text(encoding="utf-8"), schema)

        migrations = [
            read(path, f"migrations/{path.name}")
            for path in sorted(folder.glob("migrations/*.sql"))
        ]
        # Whichever folder it lies in: a function that moves to another one is not applied again.
        repeatables = [
            read(path, f"functions/{path.name}")
            for path in sorted(folder.glob("functions/**/*.sql"), key=lambda path: path.name)
        ]
        if (triggers := folder / "triggers.sql").exists():
            repeatables.append(read(triggers, triggers.name))
        known = {file.name for file in migrations}
        unknown = sorted(
            name for name in applied if name.startswith("migrations/") and name not in known
        )
        if unknown:
            raise SchemaTooNew(unknown)
        changed = [f.name for f in migrations if applied.get(f.name, f.checksum) != f.checksum]
        if changed:
            raise MigrationChanged(changed)
        return cls(
            [file for file in migrations if file.name not in applied],
            [file for file in repeatables if applied.get(file.name) != file.checksum],
            is_first=not applied,
        )


def sql_folder() -> Path:
    """`sql/` of this release: inside the package when installed, at the top of a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "sql", package.parent / "sql"):
        if (folder / "migrations").is_dir():
            return folder
    raise FileNotFoundError(f"no sql/migrations in {package} nor beside it")


async def migrate(
    url: str,
    *,
    folder: Path | None = None,
    sleep: Sleep = asyncio.sleep,
    rng: random.Random | None = None,
) -> list[str]:
    """Apply what the database at `url` lacks; the names of the files, in the order applied.

    Safe to run at the same time from many places: one works, the others wait and find it done.

    Raises UnsupportedPostgres, SchemaTooNew, MigrationChanged and SchemaOccupied before anything is
    applied; MigrationFailed when Postgres refuses a file (the files before it stay applied, of it
    nothing does, or of a stepwise one what the next run does again); MigrationLocked when another
    migrator or a table takes longer than two minutes; DatabaseUnavailable, also for a right that
    is missing.
    """
    migrator = _Migrator(url, folder or sql_folder(), sleep, rng or random.Random())
    async with _Connected(url) as connection:
        await connection.execute(LIMIT_WAITS)
        await migrator.lock(connection)
        return await migrator.run(connection)


async def check(url: str, *, folder: Path | None = None) -> None:
    """Return if the database at `url` has this release's schema; changes nothing.

    Raises SchemaBehind (it names what is missing), SchemaTooNew, MigrationChanged,
    DatabaseUnavailable.
    """
    schema = urls.parse(url).schema or "public"
    async with _Connected(url) as connection:
        applied = await _applied(connection, schema, await _bookkeeping(connection, schema))
    plan = _Plan.of(folder or sql_folder(), schema, applied)
    if plan.files:
        raise SchemaBehind([file.name for file in plan.files], schema, is_empty=plan.is_first)


async def until_current(
    url: str,
    *,
    folder: Path | None = None,
    sleep: Sleep = asyncio.sleep,
    tell: Callable[[str], object] = lambda _: None,
) -> None:
    """Wait until the database answers and has this release's schema; `tell` and log why not yet."""
    pause = 0.1
    while True:
        try:
            return await check(url, folder=folder)
        except (DatabaseUnavailable, SchemaError, InvalidSettings) as error:
            logger.warning("Waiting for Postgres: %s", error.message)
            tell(error.message)
        await sleep(pause)
        pause = min(5.0, pause * 2)


class _Connected:
    """A connection; what the driver raises while it is used comes out as an error of ours."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> Connection:
        try:
            self._connection = await connect_for_session(
                self._url,
                application_name="stream-server migrate",
                parameters=PARAMETERS,
                timeout=10,
            )
        except DRIVER_ERRORS as error:
            raise DatabaseUnavailable(f"{urls.redact(self._url)}: {translate(error)}") from error
        return self._connection

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            await self._connection.close(timeout=5)
        except DRIVER_ERRORS:
            self._connection.terminate()
        if isinstance(error, DRIVER_ERRORS):
            raise translate(error) from error


@dataclass(frozen=True, slots=True)
class _Migrator:
    """One run of `migrate`."""

    url: str
    folder: Path
    sleep: Sleep
    rng: random.Random

    @property
    def schema(self) -> str:
        return urls.parse(self.url).schema or "public"

    async def lock(self, connection: Connection) -> None:
        """Try and try again: waiting inside Postgres would hold a snapshot, which blocks the other
        migrator's CREATE INDEX CONCURRENTLY. The lock ends with the connection."""
        waited = 0.0
        while not await connection.fetchval("select pg_try_advisory_lock($1)", LOCK):
            if waited == 0:
                logger.info("Another migration is running; waiting for it")
            if waited > PATIENCE:
                raise MigrationLocked(PATIENCE)
            pause = self.rng.uniform(0.05, 0.2)
            await self.sleep(pause)
            waited += pause

    async def run(self, connection: Connection) -> list[str]:
        if connection.get_server_version().major < OLDEST_POSTGRES:
            version = await connection.fetchval("show server_version")
            raise UnsupportedPostgres(version, OLDEST_POSTGRES)
        table = await _bookkeeping(connection, self.schema)
        applied = await _applied(connection, self.schema, table)
        plan = _Plan.of(self.folder, self.schema, applied)
        await self._refuse_strangers_things(connection, plan, applied)
        names: list[str] = []
        for files in plan.transactions:
            if files:
                names += await self._apply(connection, files, is_first=plan.is_first)
        return names

    async def _refuse_strangers_things(
        self, connection: Connection, plan: _Plan, applied: Mapping[str, str]
    ) -> None:
        """Raises SchemaOccupied if something is there that the files make for the first time."""
        made = {thing for file in plan.files if file.name not in applied for thing in file.makes}
        rows = await connection.fetch(
            """
            select case when relkind in ('v', 'm') then 'view' when relkind = 'S' then 'sequence'
                        when relkind in ('i', 'I') then 'index' when relkind = 'c' then 'type'
                        else 'table' end as kind,
                   relname as name
              from pg_class
             where relnamespace = to_regnamespace($1)
            union
            select 'type', typname from pg_type
             where typnamespace = to_regnamespace($1) and typrelid = 0
            union
            select 'function', proname from pg_proc where pronamespace = to_regnamespace($1)
            """,
            connections.quote_identifier(self.schema),
        )
        # All but functions share their names.
        wanted = {(kind == "function", name) for kind, name in made}
        taken = [f"{kind} {name}" for kind, name in rows if (kind == "function", name) in wanted]
        if taken:
            raise SchemaOccupied(self.schema, sorted(taken))

    async def _apply(
        self, connection: Connection, files: Sequence[_File], *, is_first: bool
    ) -> list[str]:
        """Apply the files in one transaction, or a stepwise one in several; the names of those that
        nobody else had just applied."""
        first = files[0]
        if first.is_stepwise and not is_first:
            *steps, last = first.steps
            for step in steps:
                run = self._build if step.is_concurrent else _execute
                await self._patiently(first.name, partial(run, connection, step))
            work = [(first, last)]
        else:
            work = [(file, file.at_once if is_first else file.whole) for file in files]
        return await self._patiently(first.name, partial(self._together, connection, work))

    async def _build(self, connection: Connection, step: _Step) -> None:
        """Waits for whoever began before it, and nobody waits for it. It is not tried again: what a
        broken try has left, an earlier statement of the file removes."""
        limit = await connection.fetchval("show lock_timeout")
        await connection.execute(f"set lock_timeout = '{PATIENCE:g}s'")
        try:
            await _execute(connection, step)
        except asyncpg.LockNotAvailableError as error:
            raise MigrationLocked(PATIENCE) from error
        await connection.execute(f"set lock_timeout = '{limit}'")

    async def _patiently(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Again and again while others have the locks: they work on."""
        waited = 0.0
        while True:
            try:
                return await work()
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
                if waited > PATIENCE:
                    raise MigrationLocked(PATIENCE) from error
                logger.info("%s waits for its turn: %s", name, error)
            pause = self.rng.uniform(0.2, 1.0)
            await self.sleep(pause)
            waited += pause + 0.2

    async def _together(
        self, connection: Connection, work: Sequence[tuple[_File, _Step]]
    ) -> list[str]:
        names = []
        async with connection.transaction():
            await self._prepare(connection)
            # A function may name another one whose file comes later.
            await connection.execute("set local check_function_bodies = off")
            for file, step in work:
                if (made_before := await _claim(connection, file)) is None:
                    continue
                await _execute(connection, step)
                if file.name.startswith("functions/"):
                    await self._drop_overloads(connection, file, made_before)
                logger.info("Applied %s", file.name)
                names.append(file.name)
            if any(not name.startswith("migrations/") for name in names):
                await self._drop_unused(connection)
        return names

    async def _prepare(self, connection: Connection) -> None:
        """The schema and the table of what was applied, where they are missing."""
        schema = connections.quote_identifier(self.schema)
        user = await connection.fetchval("select quote_ident(current_user)")
        # Not `create schema if not exists`: that wants the right to make one, even if it exists.
        if await connection.fetchval("select to_regnamespace($1)", schema) is None:
            database = await connection.fetchval("select quote_ident(current_database())")
            try:
                await connection.execute(f"create schema {schema}")
            except asyncpg.InsufficientPrivilegeError as error:
                raise self._no_right(user, f"create on database {database}") from error
        # Without both, Postgres passes the schema by, and would make our tables in pg_temp.
        rights = "has_schema_privilege($1, 'create') and has_schema_privilege($1, 'usage')"
        if not await connection.fetchval(f"select {rights}", self.schema):
            raise self._no_right(user, f"create, usage on schema {schema}")
        table = await _bookkeeping(connection, self.schema)
        if table is None:
            await connection.execute(TABLE)
        elif table == "schema_migrations":
            await _execute(connection, _Step("taking over schema_migrations", ADOPT))

    def _no_right(self, user: str, right: str) -> DatabaseUnavailable:
        return DatabaseUnavailable(
            f"{user} may not make our tables in the schema {self.schema}. Either let an owner say:"
            f" grant {right} to {user}; or set DATABASE_SCHEMA to a schema that {user} owns"
        )

    async def _drop_overloads(
        self, connection: Connection, file: _File, made_before: Sequence[str]
    ) -> None:
        """Those that the file made when it was applied last, makes no more, and that a call could
        mean as well. A call that is under way goes on with what the file makes now."""
        name = Path(file.name).stem
        rows = await connection.fetch(
            """
            select p.oid::regprocedure::text as function, pronargs as most,
                   pronargs - pronargdefaults as least,
                   pg_get_function_identity_arguments(oid) as parameters,
                   xmin = pg_current_xact_id()::xid as is_new
              from pg_proc p
             where pronamespace = quote_ident(current_schema())::regnamespace and proname = $1
            """,
            name,
        )
        made = [row for row in rows if row["is_new"]]
        for old in rows:
            is_ours = not old["is_new"] and old["parameters"] in made_before
            if is_ours and any(
                new["least"] <= old["most"] and old["least"] <= new["most"] for new in made
            ):
                await connection.execute(f"drop function {old['function']}")
        await connection.execute(
            "update stream_server_migrations set makes = $2 where name = $1",
            file.name,
            [row["parameters"] for row in made],
        )

    async def _drop_unused(self, connection: Connection) -> None:
        """Drops functions that have no file any more, one `migrate` after the one that finds out:
        meanwhile somebody may be in the middle of a function that calls them."""
        names = [f"functions/{path.name}" for path in self.folder.glob("functions/**/*.sql")]
        rows = await connection.fetch(
            """
            select name, makes, checksum = 'unused' as was_unused from stream_server_migrations
             where name like 'functions/%' and name <> all ($1)
            """,
            names,
        )
        for row in rows:
            if row["was_unused"]:
                await self._drop(connection, row["name"], row["makes"])
            else:
                # An older release that is put back takes the file for one that has changed.
                await connection.execute(
                    "update stream_server_migrations set checksum = 'unused' where name = $1",
                    row["name"],
                )

    async def _drop(self, connection: Connection, file: str, made: Sequence[str]) -> None:
        name = connections.quote_identifier(Path(file).stem)
        try:
            async with connection.transaction():
                for parameters in made:
                    await connection.execute(f"drop function if exists {name}({parameters})")
                await connection.execute(
                    "delete from stream_server_migrations where name = $1", file
                )
        except asyncpg.DependentObjectsStillExistError as error:
            logger.warning("%s stays: %s (%s)", name, error, error.detail)
        else:
            logger.info("Dropped %s", name)


async def _execute(connection: Connection, step: _Step) -> None:
    try:
        await connection.execute(step.text)
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
        raise
    except asyncpg.PostgresError as error:
        raise _failure(step, error) from error


async def _bookkeeping(connection: Connection, schema: str) -> str | None:
    """The table that says what was applied: ours, or ours of before 0.1; None if there is none."""
    found = await connection.fetch(
        """
        select c.relname,
               array(select a.attname from pg_attribute a
                      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                      order by a.attnum)::text[] as columns
          from pg_class c
         where c.relnamespace = to_regnamespace($1) and c.relkind = 'r'
           and c.relname in ('stream_server_migrations', 'schema_migrations')
        """,
        connections.quote_identifier(schema),
    )
    tables = {row["relname"]: row["columns"] for row in found}
    if "stream_server_migrations" in tables:
        return "stream_server_migrations"
    if tables.get("schema_migrations") == ["name", "checksum", "applied_at"]:
        return "schema_migrations"
    return None


async def _applied(connection: Connection, schema: str, table: str | None) -> dict[str, str]:
    if table is None:
        return {}
    place = f"{connections.quote_identifier(schema)}.{table}"
    rows = await connection.fetch(f"select name, checksum from {place}")  # noqa: S608  # quoted
    return {row["name"]: row["checksum"] for row in rows}


async def _claim(connection: Connection, file: _File) -> Sequence[str] | None:
    """Write the file's row, and say what it had made before; None if another migrator has, and
    applied this same file."""
    made_before: Sequence[str] | None = await connection.fetchval(
        """
        insert into stream_server_migrations as old (name, checksum) values ($1, $2)
        on conflict (name) do update
        set checksum = excluded.checksum, applied_at = excluded.applied_at
        where old.checksum <> excluded.checksum
        returning makes
        """,
        file.name,
        file.checksum,
    )
    return made_before


def _failure(step: _Step, error: asyncpg.PostgresError) -> Exception:
    if (error.sqlstate or "").startswith(NOT_THE_FILE):
        return translate(error)
    position = getattr(error, "position", None)
    line = step.line + step.text.count("\n", 0, int(position) - 1) if position else None
    hint = f" ({error.hint})" if getattr(error, "hint", None) else ""
    return MigrationFailed(step.file, f"{error}{hint}", line)
