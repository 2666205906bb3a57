"""The migration runner, on a small schema of its own and on the one that we ship."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest

from stream_server.database.migrations import LOCK, check, migrate
from stream_server.errors import (
    DatabaseUnavailable,
    MigrationChanged,
    MigrationFailed,
    MigrationLocked,
    SchemaBehind,
    SchemaTooNew,
)
from tests.surroundings import opened

Connection: TypeAlias = "asyncpg.Connection[Any]"

FIRST = "create table shelf (id text primary key);\ninsert into shelf values ('one');\n"
COUNT = """create or replace function shelves() returns bigint language sql
as $$ select count(*) from shelf $$;
"""
TRIGGERS = """create or replace trigger shelf_is_seen after insert on shelf
for each row execute function see();
"""
SEE = """create or replace function see() returns trigger language plpgsql
as $$ begin return null; end $$;
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "migrations/0001_shelf.sql", FIRST)
    write(tmp_path, "functions/shelves.sql", COUNT)
    write(tmp_path, "functions/see.sql", SEE)
    write(tmp_path, "triggers.sql", TRIGGERS)
    return tmp_path


@pytest.fixture
async def empty(empty_database_url: str) -> Any:
    connection: Connection = await opened(empty_database_url)
    yield connection
    connection.terminate()


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)


async def rows(connection: Connection) -> dict[str, tuple[object, ...]]:
    """What the migration runner remembers, by file."""
    found = await connection.fetch(
        "select name, checksum, applied_at from stream_server_migrations"
    )
    return {row["name"]: tuple(row) for row in found}


async def test_files_are_applied_in_order_and_only_once(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    write(folder, "migrations/0002_more.sql", "insert into shelf values ('two');")
    assert await migrate(empty_database_url, folder=folder) == [
        "migrations/0001_shelf.sql",
        "migrations/0002_more.sql",
        "functions/see.sql",
        "functions/shelves.sql",
        "triggers.sql",
    ]
    assert await empty.fetchval("select shelves()") == 2
    before = await rows(empty)
    assert await migrate(empty_database_url, folder=folder) == []
    assert await rows(empty) == before


async def test_a_new_migration_is_applied_alone(empty_database_url: str, folder: Path) -> None:
    await migrate(empty_database_url, folder=folder)
    write(folder, "migrations/0002_more.sql", "insert into shelf values ('two');")
    assert await migrate(empty_database_url, folder=folder) == ["migrations/0002_more.sql"]


async def test_a_changed_function_is_applied_again(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    await migrate(empty_database_url, folder=folder)
    write(folder, "functions/shelves.sql", COUNT.replace("count(*)", "-count(*)"))
    assert await migrate(empty_database_url, folder=folder) == ["functions/shelves.sql"]
    assert await empty.fetchval("select shelves()") == -1


async def test_a_function_may_name_one_whose_file_comes_later(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    write(folder, "functions/a.sql", COUNT.replace("shelves", "a").replace("count(*)", "z(1)"))
    write(
        folder,
        "functions/z.sql",
        "create or replace function z(x int) returns bigint language sql as 'select 7::bigint';",
    )
    await migrate(empty_database_url, folder=folder)
    assert await empty.fetchval("select a()") == 7


async def test_a_changed_migration_is_refused_by_name_and_nothing_is_applied(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    await migrate(empty_database_url, folder=folder)
    before = await rows(empty)
    write(folder, "migrations/0001_shelf.sql", FIRST + "-- a second thought\n")
    write(folder, "migrations/0002_more.sql", "insert into shelf values ('two');")
    with pytest.raises(MigrationChanged, match=r"migrations/0001_shelf\.sql"):
        await migrate(empty_database_url, folder=folder)
    with pytest.raises(MigrationChanged, match=r"migrations/0001_shelf\.sql"):
        await check(empty_database_url, folder=folder)
    assert await rows(empty) == before


async def test_line_endings_are_no_change(empty_database_url: str, folder: Path) -> None:
    """A checkout on Windows has others than the wheel."""
    await migrate(empty_database_url, folder=folder)
    for name, text in (("migrations/0001_shelf.sql", FIRST), ("triggers.sql", TRIGGERS)):
        (folder / name).write_bytes(text.replace("\n", "\r\n").encode())
    assert await migrate(empty_database_url, folder=folder) == []


async def test_a_newer_schema_is_refused_and_left_alone(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    await migrate(empty_database_url, folder=folder)
    await empty.execute(
        "insert into stream_server_migrations values ('migrations/0002_later.sql', 'x')"
    )
    write(folder, "functions/shelves.sql", COUNT.replace("count(*)", "0::bigint"))
    with pytest.raises(SchemaTooNew, match=r"newer release: migrations/0002_later\.sql"):
        await migrate(empty_database_url, folder=folder)
    with pytest.raises(SchemaTooNew, match=r"migrations/0002_later\.sql"):
        await check(empty_database_url, folder=folder)
    assert await empty.fetchval("select shelves()") == 1


async def test_a_failing_migration_leaves_nothing_half_applied(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    await migrate(empty_database_url, folder=folder)
    before = await rows(empty)
    write(
        folder,
        "migrations/0002_bad.sql",
        "insert into shelf values ('two');\ncreate table half ();\nselect nonsense;\n",
    )
    with pytest.raises(MigrationFailed, match=r"0002_bad\.sql, line 3: .*nonsense"):
        await migrate(empty_database_url, folder=folder)
    assert await empty.fetchval("select array_agg(id) from shelf") == ["one"]
    assert await empty.fetchval("select to_regclass('half')") is None
    assert await rows(empty) == before

    write(folder, "migrations/0002_bad.sql", "insert into shelf values ('two');")
    await migrate(empty_database_url, folder=folder)
    assert await empty.fetchval("select shelves()") == 2


async def test_functions_and_triggers_are_applied_all_or_none(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    write(folder, "triggers.sql", "create nonsense;")
    with pytest.raises(MigrationFailed, match=r"triggers\.sql, line 1"):
        await migrate(empty_database_url, folder=folder)
    assert await empty.fetchval("select to_regproc('shelves')") is None


async def test_racing_migrators_apply_each_file_once(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    applied = await asyncio.gather(*(migrate(empty_database_url, folder=folder) for _ in range(8)))
    assert sorted(name for names in applied for name in names) == sorted(await rows(empty))
    assert await empty.fetchval("select shelves()") == 1


async def test_a_racer_without_the_lock_waits_for_the_row_and_does_not_apply_the_file_twice(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    """A pooler may hand the lock to nobody: the file's own row still decides."""
    await migrate(empty_database_url, folder=folder)
    write(folder, "migrations/0002_more.sql", "insert into shelf values ('two');")
    other = empty.transaction()
    await other.start()  # in the middle of the file, having written the row first
    await empty.execute(
        "insert into stream_server_migrations values ('migrations/0002_more.sql',"
        " encode(sha256('insert into shelf values (''two'');'), 'hex'))"
    )
    await empty.execute("insert into shelf values ('two')")
    racer = asyncio.create_task(migrate(empty_database_url, folder=folder))
    await blocked(empty_database_url)
    assert not racer.done()
    await other.commit()
    assert await racer == []
    assert await empty.fetchval("select shelves()") == 2


async def test_who_waits_too_long_for_another_migration_is_told(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    await empty.fetchval("select pg_advisory_lock($1)", LOCK)
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    with pytest.raises(MigrationLocked, match="120 s"):
        await migrate(empty_database_url, folder=folder, sleep=sleep, rng=random.Random(1))
    assert sum(waits) > 120


async def test_check_names_what_is_missing_and_changes_nothing(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    with pytest.raises(SchemaBehind, match=r"is empty .*stream-server migrate"):
        await check(empty_database_url, folder=folder)
    assert await empty.fetchval("select to_regclass('stream_server_migrations')") is None
    await migrate(empty_database_url, folder=folder)
    await check(empty_database_url, folder=folder)
    write(folder, "functions/shelves.sql", COUNT + "-- changed\n")
    with pytest.raises(SchemaBehind, match=r"functions/shelves\.sql"):
        await check(empty_database_url, folder=folder)


async def test_our_own_schema_migrates_and_is_current(empty_database_url: str) -> None:
    assert "migrations/0001_catalogue.sql" in await migrate(empty_database_url)
    await check(empty_database_url)
    assert await migrate(empty_database_url) == []


@pytest.mark.parametrize("call", [migrate, check])
async def test_an_unreachable_database_is_named_without_its_password(
    call: Callable[[str], Awaitable[object]],
) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        await call("postgresql://shop:swordfish@127.0.0.1:1/shop")
    assert "127.0.0.1:1/shop" in caught.value.message
    assert "swordfish" not in caught.value.message


async def blocked(url: str) -> None:
    """Return when some session of this database waits for a lock."""
    watcher: Connection = await opened(url)
    try:
        async with asyncio.timeout(10):
            while not await watcher.fetchval(  # noqa: ASYNC110  # the event is Postgres's
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
            ):
                await asyncio.sleep(0.005)
    finally:
        await watcher.close()
