"""Brings a database to this release's schema, from the files in `sql/`.

- `migrations/NNNN_*.sql` are append-only: each is applied once, in order, in its own transaction,
  and never edited afterwards.
- `functions/*.sql`, then `triggers.sql`, are repeatable (`create or replace`): those whose text has
  changed are applied again, all in one transaction, after the migrations.

`schema_migrations` keeps each file's name and checksum. A file's row is written first, in the
file's own transaction: a racing migrator waits for that row, then sees it and does not apply the
file a second time. The advisory lock before it is only there so that racers wait in peace.

Wants a connection of its own, not one through a pooler in transaction mode.
"""

import asyncio
import hashlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg

from stream_server.database.pool import redact, translate
from stream_server.errors import (
    DatabaseUnavailable,
    MigrationChanged,
    MigrationFailed,
    MigrationLocked,
    SchemaBehind,
    SchemaError,
    SchemaTooNew,
)

__all__ = ["check", "migrate", "sql_folder", "until_current"]

logger = logging.getLogger(__name__)

Connection: TypeAlias = "asyncpg.Connection[Any]"  # generic in the stubs only
Sleep = Callable[[float], Awaitable[object]]

LOCK = int.from_bytes(b"ss-migra")  # a key of pg_advisory_lock, nobody else's by its looks
LOCK_PATIENCE = 120.0  # seconds to wait for another migrator
# A migration waits no longer for a table that others use: behind it, everybody would wait.
LOCK_TIMEOUT = 10.0  # seconds

TABLE = """
create table if not exists schema_migrations (
    name       text primary key,
    checksum   text not null,
    applied_at timestamptz not null default now()
)"""


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a database that has `applied` (name to checksum) still needs from `folder`."""

    migrations: Sequence[_File]
    repeatables: Sequence[_File]

    @property
    def missing(self) -> list[str]:
        return [file.name for file in (*self.migrations, *self.repeatables)]

    @classmethod
    def of(cls, folder: Path, applied: Mapping[str, str]) -> "_Plan":
        """Raises SchemaTooNew, MigrationChanged."""
        migrations = [_read(folder, path) for path in sorted(folder.glob("migrations/*.sql"))]
        repeatables = [_read(folder, path) for path in sorted(folder.glob("functions/*.sql"))]
        if (triggers := folder / "triggers.sql").exists():
            repeatables.append(_read(folder, triggers))
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
        )


def _read(folder: Path, path: Path) -> _File:
    return _File(path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8"))


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

    Raises SchemaTooNew and MigrationChanged before anything is applied; MigrationFailed when
    Postgres refuses a file (the files before it stay applied, of it nothing does); MigrationLocked
    when another migrator takes longer than two minutes; DatabaseUnavailable.
    """
    folder = folder or sql_folder()
    connection = await _connect(url)
    try:
        await _lock(connection, sleep, rng or random.Random())
        await connection.execute(TABLE)
        plan = _Plan.of(folder, await _applied(connection))
        names: list[str] = []
        for file in plan.migrations:
            names += await _apply(connection, [file])
        if plan.repeatables:
            names += await _apply(connection, plan.repeatables)
        return names
    finally:
        await connection.close(timeout=5)


async def check(url: str, *, folder: Path | None = None) -> None:
    """Return if the database at `url` has this release's schema; changes nothing.

    Raises SchemaBehind (it names what is missing), SchemaTooNew, MigrationChanged,
    DatabaseUnavailable.
    """
    connection = await _connect(url)
    try:
        plan = _Plan.of(folder or sql_folder(), await _applied(connection))
    finally:
        await connection.close(timeout=5)
    if plan.missing:
        raise SchemaBehind(plan.missing)


async def until_current(
    url: str, *, folder: Path | None = None, sleep: Sleep = asyncio.sleep
) -> None:
    """Wait until the database answers and has this release's schema, logging what it misses."""
    pause = 0.1
    while True:
        try:
            return await check(url, folder=folder)
        except (DatabaseUnavailable, SchemaError) as error:
            logger.warning("Waiting for Postgres at %s: %s", redact(url), error.message)
        await sleep(pause)
        pause = min(5.0, pause * 2)


async def _connect(url: str) -> Connection:
    try:
        return await asyncpg.connect(
            url,
            server_settings={
                "application_name": "stream-server migrate",
                "client_min_messages": "warning",
                "lock_timeout": f"{LOCK_TIMEOUT:g}s",
            },
        )
    except ValueError:  # its text may quote a password
        raise DatabaseUnavailable(f"{redact(url)} is no address of a Postgres") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        reason = translate(error) or error
        raise DatabaseUnavailable(f"{redact(url)}: {reason}") from error


async def _lock(connection: Connection, sleep: Sleep, rng: random.Random) -> None:
    """Try and try again: waiting inside Postgres would hold a snapshot, which blocks the other
    migrator's CREATE INDEX CONCURRENTLY. The lock ends with the connection."""
    waited = 0.0
    while not await connection.fetchval("select pg_try_advisory_lock($1)", LOCK):
        if waited == 0:
            logger.info("Another migration is running; waiting for it")
        if waited > LOCK_PATIENCE:
            raise MigrationLocked(LOCK_PATIENCE)
        pause = rng.uniform(0.05, 0.2)
        await sleep(pause)
        waited += pause


async def _applied(connection: Connection) -> dict[str, str]:
    if await connection.fetchval("select to_regclass('schema_migrations')") is None:
        return {}
    rows = await connection.fetch("select name, checksum from schema_migrations")
    return {row["name"]: row["checksum"] for row in rows}


async def _apply(connection: Connection, files: Sequence[_File]) -> list[str]:
    """Apply the files in one transaction; the names of those that nobody else had just applied."""
    names = []
    async with connection.transaction():
        # A function may name another one whose file comes later.
        await connection.execute("set local check_function_bodies = off")
        for file in files:
            if not await _claim(connection, file):
                continue
            try:
                await connection.execute(file.text)
            except asyncpg.PostgresError as error:
                if isinstance(lost := translate(error), DatabaseUnavailable):
                    raise lost from error
                position = getattr(error, "position", None)
                line = file.text.count("\n", 0, int(position) - 1) + 1 if position else None
                hint = f" ({error.hint})" if getattr(error, "hint", None) else ""
                raise MigrationFailed(file.name, f"{error}{hint}", line) from error
            logger.info("Applied %s", file.name)
            names.append(file.name)
    return names


async def _claim(connection: Connection, file: _File) -> bool:
    """Write the file's row; False if another migrator has, and applied this same file."""
    try:
        claimed = await connection.fetchval(
            """
            insert into schema_migrations as old (name, checksum) values ($1, $2)
            on conflict (name) do update
            set checksum = excluded.checksum, applied_at = excluded.applied_at
            where old.checksum <> excluded.checksum
            returning true
            """,
            file.name,
            file.checksum,
        )
    except asyncpg.LockNotAvailableError as error:
        raise MigrationLocked(LOCK_TIMEOUT) from error
    return claimed is not None
