"""The migration runner, on a small schema of its own and on the one that we ship."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import asyncpg
import pytest

from stream_server.database import migrations
from stream_server.database.migrations import LOCK, check, migrate, until_current
from stream_server.errors import (
    DatabaseError,
    DatabaseUnavailable,
    MigrationChanged,
    MigrationFailed,
    MigrationLocked,
    SchemaBehind,
    SchemaOccupied,
    SchemaTooNew,
    UnsupportedPostgres,
)
from tests.support.surroundings import FOREIGN, IS_PLAIN, in_schema, opened
from tests.support.templates import Templates

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


async def test_a_function_that_only_moves_to_another_folder_is_not_applied_again(
    empty_database_url: str, folder: Path
) -> None:
    await migrate(empty_database_url, folder=folder)
    (folder / "functions/shelving").mkdir()
    (folder / "functions/shelves.sql").rename(folder / "functions/shelving/shelves.sql")
    assert await migrate(empty_database_url, folder=folder) == []
    write(folder, "functions/shelving/shelves.sql", COUNT.replace("count(*)", "-count(*)"))
    assert await migrate(empty_database_url, folder=folder) == ["functions/shelves.sql"]


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


async def test_while_a_table_is_in_use_others_write_to_it_and_the_migration_comes_again(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    await migrate(empty_database_url, folder=folder)
    write(folder, "migrations/0002_label.sql", "alter table shelf add column label text;")
    in_use = empty.transaction()
    await in_use.start()
    await empty.execute("insert into shelf values ('being written')")
    tries = 0

    async def sleep(seconds: float) -> None:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)

    migration = asyncio.create_task(migrate(empty_database_url, folder=folder, sleep=sleep))
    other: Connection = await opened(empty_database_url)
    await other.execute("set lock_timeout = '1s'")
    written = 0
    while tries < 5:
        written += 1
        await other.execute("insert into shelf values ($1)", f"shelf {written}")
    await in_use.commit()
    assert await migration == ["migrations/0002_label.sql"]
    assert await other.fetchval("select count(label) from shelf") == 0
    await other.close()


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


# Functions whose parameters change


COUNT_FROM = COUNT.replace("shelves()", "shelves(first text default '')")
COUNT_IN_CASE = COUNT.replace("shelves()", "shelves(first text default '', last text default null)")


async def signatures(connection: Connection, name: str) -> list[str]:
    rows = await connection.fetch(
        "select oid::regprocedure::text as function from pg_proc where proname = $1"
        "   and pronamespace = quote_ident(current_schema())::regnamespace order by 1",
        name,
    )
    return [row["function"] for row in rows]


async def test_a_function_that_gets_a_parameter_leaves_none_that_a_call_could_mean_as_well(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    write(folder, "functions/shelves.sql", COUNT_FROM)
    await migrate(empty_database_url, folder=folder)
    write(folder, "functions/shelves.sql", COUNT_IN_CASE)
    await migrate(empty_database_url, folder=folder)
    assert await signatures(empty, "shelves") == ["shelves(text,text)"]
    assert await empty.fetchval("select shelves('')") == 1


async def test_a_shops_own_function_of_the_same_name_stays(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    await migrate(empty_database_url, folder=folder)
    await empty.execute("create function shelves(of_shop date) returns int language sql return 7")
    write(folder, "functions/shelves.sql", COUNT_IN_CASE)
    await migrate(empty_database_url, folder=folder)
    assert await signatures(empty, "shelves") == ["shelves(date)", "shelves(text,text)"]


async def test_who_is_in_the_middle_of_a_function_still_finds_what_that_calls(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    """It waits for a lock, say, while another release comes."""
    before = """create or replace function sell() returns int language plpgsql
set search_path from current as $$
begin
    perform pg_advisory_xact_lock(7);
    return taken(1, 2);
end $$;
"""
    taken = "create or replace function taken(a int, b int) returns int language sql return a + b;"
    write(folder, "functions/sell.sql", before)
    write(folder, "functions/taken.sql", taken)
    await migrate(empty_database_url, folder=folder)
    await empty.fetchval("select pg_advisory_lock(7)")
    seller: Connection = await opened(empty_database_url)
    sale = asyncio.create_task(seller.fetchval("select sell()"))
    await blocked(empty_database_url)

    write(folder, "functions/sell.sql", before.replace("(1, 2)", "(3)"))
    write(folder, "functions/taken.sql", taken.replace(", b int", "").replace("a + b", "a"))
    await migrate(empty_database_url, folder=folder)
    await empty.fetchval("select pg_advisory_unlock(7)")
    assert await sale == 3
    assert await seller.fetchval("select sell()") == 3
    await seller.close()


async def test_a_function_without_a_file_stays_once_and_is_dropped_by_the_next_migrate(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    await migrate(empty_database_url, folder=folder)
    await empty.execute("create function shelves(of_shop date) returns int language sql return 7")
    (folder / "functions/shelves.sql").unlink()
    write(folder, "functions/see.sql", SEE + "-- changed\n")
    await migrate(empty_database_url, folder=folder)
    assert await signatures(empty, "shelves") == ["shelves()", "shelves(date)"]
    write(folder, "functions/see.sql", SEE)
    await migrate(empty_database_url, folder=folder)
    assert await signatures(empty, "shelves") == ["shelves(date)"]  # the shop's own
    assert "functions/shelves.sql" not in await rows(empty)


async def test_a_function_that_something_of_the_shop_needs_stays(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    await migrate(empty_database_url, folder=folder)
    await empty.execute("create view how_many as select shelves()")
    (folder / "functions/shelves.sql").unlink()
    for text in (SEE + "-- changed\n", SEE):
        write(folder, "functions/see.sql", text)
        await migrate(empty_database_url, folder=folder)
    assert await empty.fetchval("select * from how_many") == 1


@pytest.mark.parametrize("runs", [1, 2])
async def test_an_older_release_that_is_put_back_has_its_functions_again(
    empty_database_url: str, empty: Connection, folder: Path, runs: int
) -> None:
    await migrate(empty_database_url, folder=folder)

    async def migrate_without_it(times: int) -> None:
        (folder / "functions/shelves.sql").unlink()
        for _ in range(times):
            with (folder / "functions/see.sql").open("a") as file:
                file.write("-- changed\n")
            await migrate(empty_database_url, folder=folder)

    await migrate_without_it(runs)
    write(folder, "functions/shelves.sql", COUNT)
    await migrate(empty_database_url, folder=folder)
    assert await signatures(empty, "shelves") == ["shelves()"]
    await migrate_without_it(1)
    assert await signatures(empty, "shelves") == ["shelves()"]  # it stays once again


# What is not ours


async def refusal(call: Callable[[], Awaitable[object]]) -> str:
    """What it says when it fails: one line."""
    with pytest.raises(DatabaseError) as caught:
        await call()
    message = caught.value.message
    assert "\n" not in message
    return message


async def told_while_waiting(
    url: str, caplog: pytest.LogCaptureFixture, folder: Path | None = None
) -> str:
    """What `until_current` logs: one line for each time that it looks."""

    async def sleep(seconds: float) -> None:
        raise TimeoutError

    caplog.clear()
    with pytest.raises(TimeoutError):
        await until_current(url, folder=folder, sleep=sleep)
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    return record.getMessage()


@pytest.fixture
async def superuser(templates: Templates, empty_database_url: str) -> Any:
    database = urlsplit(empty_database_url).path.strip("/")
    connection: Connection = await asyncpg.connect(templates.surroundings.admin_url(database))
    yield connection
    connection.terminate()


async def test_the_schema_is_made_by_whoever_may(
    templates: Templates, empty_database_url: str, superuser: Connection, folder: Path
) -> None:
    url = in_schema(empty_database_url, 'Our "own" stock')
    role = templates.surroundings.role
    database = await superuser.fetchval("select current_database()")
    await superuser.execute(f'grant create on database "{database}" to {role}')
    await migrate(url, folder=folder)
    await check(url, folder=folder)
    assert await superuser.fetchval("""select count(*) from "Our ""own"" stock".shelf""") == 1


async def test_who_may_not_make_the_schema_is_told_which_right_and_which_setting(
    templates: Templates,
    empty_database_url: str,
    superuser: Connection,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = in_schema(empty_database_url, "stock")
    database = await superuser.fetchval("select current_database()")
    await superuser.execute(f'alter database "{database}" owner to current_user')
    said = await refusal(lambda: migrate(url, folder=folder))
    assert f"grant create on database {database} to {templates.surroundings.role}" in said
    assert "DATABASE_SCHEMA" in said
    assert "is empty (in the schema stock)" in await refusal(lambda: check(url, folder=folder))
    assert "stream-server migrate" in await told_while_waiting(url, caplog, folder)


async def test_who_may_not_make_tables_is_told_which_right_and_which_setting(
    templates: Templates,
    empty_database_url: str,
    superuser: Connection,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = in_schema(empty_database_url, "stock")
    await superuser.execute("create schema stock")
    said = await refusal(lambda: migrate(url, folder=folder))
    assert f'grant create, usage on schema "stock" to {templates.surroundings.role}' in said
    assert "DATABASE_SCHEMA" in said
    assert "is empty" in await refusal(lambda: check(url, folder=folder))
    await superuser.execute(f"grant usage, create on schema stock to {templates.surroundings.role}")
    assert await migrate(url, folder=folder)
    await superuser.execute(f"revoke usage on schema stock from {templates.surroundings.role}")
    assert "permission denied" in await refusal(lambda: migrate(url, folder=folder))
    assert "permission denied" in await refusal(lambda: check(url, folder=folder))
    assert "permission denied" in await told_while_waiting(url, caplog, folder)


@pytest.mark.parametrize(
    ("statement", "thing"),
    [
        ("create table {}.products (sku text)", "table products"),
        ("create table {}.orders (n int) partition by range (n)", "table orders"),
        ("create view {}.stock_alerts as select 1 as one", "view stock_alerts"),
        ("create materialized view {}.reservations as select 1 as one", "view reservations"),
        ("create sequence {}.sync_state", "sequence sync_state"),
        ("create type {}.stock_line as (a int)", "type stock_line"),
        ("create domain {}.stock_move as text", "type stock_move"),
        ("create type {}.variants as enum ('a')", "type variants"),
        ("create type {}.stock_offer as range (subtype = int)", "type stock_offer"),
        ("create function {}.wire_time(a date) returns int language sql return 1",
         "function wire_time"),
        ("create procedure {}.reserve_stock() language sql begin atomic; end",
         "function reserve_stock"),
        # what only a later file makes
        ("create table {}.stream_settings (name text)", "table stream_settings"),
        ("create view {}.stock_states as select 1 as one", "view stock_states"),
    ],
)  # fmt: skip
async def test_things_of_our_names_are_refused_by_name_before_anything_is_applied(
    empty_database_url: str,
    empty: Connection,
    caplog: pytest.LogCaptureFixture,
    statement: str,
    thing: str,
) -> None:
    schema = await empty.fetchval("select quote_ident(current_schema())")
    await empty.execute(statement.format(schema))
    with pytest.raises(SchemaOccupied, match="not ours") as caught:
        await migrate(empty_database_url)
    assert caught.value.details["taken"] == [thing]
    assert "DATABASE_SCHEMA" in caught.value.message
    assert "\n" not in caught.value.message
    assert await empty.fetchval("select to_regclass('stream_server_migrations')") is None
    assert await empty.fetchval("select to_regtype('stock_row')") is None
    assert "is empty" in await refusal(lambda: check(empty_database_url))
    assert "is empty" in await told_while_waiting(empty_database_url, caplog)


async def test_things_that_only_a_later_release_makes_are_refused_when_that_one_comes(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    await migrate(empty_database_url, folder=folder)
    await empty.execute("create table label (of_shop text)")
    before = await rows(empty)
    write(folder, "migrations/0002_more.sql", "insert into shelf values ('two');")
    write(folder, "migrations/0003_label.sql", "create table label (text text);")
    with pytest.raises(SchemaOccupied, match="table label"):
        await migrate(empty_database_url, folder=folder)
    assert await rows(empty) == before


@pytest.mark.skipif(IS_PLAIN, reason="there is no other schema")
async def test_a_shops_own_tables_in_public_do_not_matter(
    empty_database_url: str, superuser: Connection
) -> None:
    assert "create table public.products" in FOREIGN
    await migrate(empty_database_url)
    await check(empty_database_url)
    assert await superuser.fetchval("select sku from public.products") == "own"
    assert await superuser.fetchval("select version from public.schema_migrations")


@pytest.mark.parametrize(
    "columns",
    [
        "version varchar primary key",  # Rails
        "version bigint primary key, inserted_at timestamp",  # Ecto
        "version bigint primary key, dirty boolean",  # golang-migrate
    ],
)
async def test_a_schema_migrations_of_another_program_in_our_schema_does_not_matter(
    empty_database_url: str, empty: Connection, columns: str
) -> None:
    await empty.execute(f"create table schema_migrations ({columns})")
    await empty.execute("insert into schema_migrations (version) values ('20240102030405')")
    with pytest.raises(SchemaBehind, match="is empty"):
        await check(empty_database_url)
    await migrate(empty_database_url)
    await check(empty_database_url)
    assert await migrate(empty_database_url) == []
    assert await empty.fetchval("select count(*) from schema_migrations where version is not null")


async def test_the_bookkeeping_of_the_release_before_is_taken_over(
    empty_database_url: str, empty: Connection, folder: Path
) -> None:
    """It had no schema in a function's checksum, and did not know what its files had made."""
    write(folder, "functions/shelves.sql", COUNT_FROM)
    await migrate(empty_database_url, folder=folder)
    await empty.execute(
        "alter table stream_server_migrations rename to schema_migrations;"
        "alter table schema_migrations rename constraint stream_server_migrations_pkey"
        "    to schema_migrations_pkey;"
        "alter table schema_migrations drop column makes;"
        "update schema_migrations set checksum = 'of before' where name not like 'migrations/%'"
    )
    with pytest.raises(SchemaBehind, match=r"functions/shelves\.sql"):
        await check(empty_database_url, folder=folder)
    write(folder, "functions/shelves.sql", COUNT_IN_CASE)
    applied = await migrate(empty_database_url, folder=folder)
    assert applied == ["functions/see.sql", "functions/shelves.sql", "triggers.sql"]
    assert await signatures(empty, "shelves") == ["shelves(text,text)"]
    # What that release looks at, should it come back.
    seen = await empty.fetch("select name, checksum, applied_at from schema_migrations")
    assert len(seen) == 4
    assert await migrate(empty_database_url, folder=folder) == []


async def test_an_older_postgres_is_refused_by_name_before_anything_is_applied(
    empty_database_url: str, empty: Connection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "OLDEST_POSTGRES", 99)
    version = await empty.fetchval("show server_version")
    with pytest.raises(UnsupportedPostgres) as caught:
        await migrate(empty_database_url, folder=folder)
    assert caught.value.message.startswith(f"This is Postgres {version}; 99 or newer is needed")
    assert await empty.fetchval("select to_regclass('stream_server_migrations')") is None
    assert await empty.fetchval("select to_regclass('shelf')") is None


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
