"""Whatever ends a `migrate`, wherever: nothing is left half done that the next cannot complete."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest

from stream_server.database.migrations import check, migrate
from stream_server.errors import DatabaseError
from tests.support.interruptions import How, Interruption, interrupted
from tests.support.invariants import assert_consistent
from tests.support.releases import migrated_by
from tests.support.surroundings import in_schema

Connection: TypeAlias = "asyncpg.Connection[Any]"

BEFORE = {
    "migrations/0001_shelf.sql": """
create table shelf (name text primary key);
insert into shelf select 'shelf ' || n from generate_series(1, 50) n;
""",
    "functions/add_shelf.sql": """
create or replace function add_shelf(named text) returns bigint language plpgsql
set search_path from current as $$
begin
    insert into shelf (name) values (named);
    return (select count(*) from shelf);
end $$;
""",
    "functions/see.sql": """
create or replace function see() returns trigger language plpgsql as $$ begin return null; end $$;
""",
    "triggers.sql": """
create or replace trigger shelf_is_seen after insert on shelf
for each row execute function see();
""",
}
AFTER = {
    "migrations/0002_number.sql": """-- Each statement is a transaction of its own.
-- In portions.

create sequence if not exists shelf_numbers;

alter table shelf
    add column if not exists number bigint,
    alter column number set default nextval('shelf_numbers');

do $$
begin
    while exists (select from shelf where number is null) loop
        update shelf set number = default
         where name in (select name from shelf where number is null limit 20);
        commit;
    end loop;
end
$$;

drop index concurrently if exists shelf_by_number;

create unique index concurrently shelf_by_number on shelf (number);

alter table shelf add constraint shelf_by_number unique using index shelf_by_number;
""",
    "migrations/0003_label.sql": "create table label (text text primary key);",
    "functions/add_shelf.sql": BEFORE["functions/add_shelf.sql"].replace(
        "named text)", "named text, times integer default 1)"
    ),
}


def written(folder: Path, *sets: dict[str, str]) -> Path:
    for name, text in [item for each in sets for item in each.items()]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


async def tried(interruption: Interruption, url: str, folder: Path | None = None) -> list[str]:
    """What `migrate` has applied; nothing if it is interrupted, which it tells in one line."""
    try:
        return await migrate(url, folder=folder)
    except DatabaseError as failure:
        if not interruption.happened:
            raise
        error = failure
    assert "\n" not in error.message
    return []


@pytest.fixture
async def admin(blank_url: str) -> AsyncIterator[Connection]:
    connection: Connection = await asyncpg.connect(blank_url)
    yield connection
    connection.terminate()


async def things(connection: Connection, schema: str) -> list[str]:
    """All that lies in the schema, and the schema itself."""
    rows = await connection.fetch(
        """
        select 'schema' from pg_namespace where nspname = $1
        union all
        select relname from pg_class where relnamespace = to_regnamespace($1)
        union all
        select proname from pg_proc where pronamespace = to_regnamespace($1)
        """,
        schema,
    )
    return [row[0] for row in rows]


def how(at: int) -> How:
    return "terminated" if at % 2 else "cancelled"


class TestASmallFolder:
    async def test_a_first_run_leaves_nothing(
        self, blank_url: str, admin: Connection, tmp_path: Path
    ) -> None:
        folder = written(tmp_path, BEFORE, AFTER)
        at = 0
        while True:
            at += 1
            with interrupted(admin, at, how(at)) as interruption:
                await tried(interruption, in_schema(blank_url, "shelves"), folder)
            if not interruption.happened:
                break
            assert await things(admin, "shelves") == [], at
        assert at > 20
        await check(in_schema(blank_url, "shelves"), folder=folder)

    async def test_an_upgrade_leaves_what_works_and_what_the_next_one_completes(
        self, blank_url: str, admin: Connection, tmp_path: Path
    ) -> None:
        old = written(tmp_path / "old", BEFORE)
        new = written(tmp_path / "new", BEFORE, AFTER)
        at = 0
        happened = True
        while happened:
            at += 1
            url = in_schema(blank_url, f"shelves{at}")
            await migrate(url, folder=old)
            with interrupted(admin, at, how(at)) as interruption:
                first = await tried(interruption, url, new)
            happened = interruption.happened
            # What the release before calls.
            assert await admin.fetchval(f"select shelves{at}.add_shelf('another')") == 51
            second = await migrate(url, folder=new)
            assert not happened or not set(first) & set(second)
            await check(url, folder=new)
            assert await migrate(url, folder=new) == []
            assert await admin.fetchval(f"select count(number) from shelves{at}.shelf") == 51
            assert await admin.fetchval(f"select shelves{at}.add_shelf('yet another')") == 52
        assert at > 20


class TestOurOwn:
    async def test_a_first_run_leaves_nothing(self, blank_url: str, admin: Connection) -> None:
        at = 3
        while True:
            with interrupted(admin, at, "terminated") as interruption:
                await tried(interruption, in_schema(blank_url, "stock"))
            if not interruption.happened:
                break
            assert await things(admin, "stock") == [], at
            at += 17
        assert at > 100

    async def test_the_release_before_works_on_whatever_an_upgrade_leaves(
        self, before: Path, blank_url: str, admin: Connection, tmp_path: Path
    ) -> None:
        code, output = await migrated_by(before, blank_url, tmp_path / "log")
        assert code == 0, output
        await admin.execute(
            "insert into products (id, name, base_price, max_quantity)"
            " values ('lamp', 'Lamp', 100, 10000)"
        )
        at = 0
        while True:
            at += 1 if at < 60 else 25
            with interrupted(admin, at, "terminated") as interruption:
                await tried(interruption, blank_url)
            await self._sell(admin, at)
            if not interruption.happened:
                break
        await check(blank_url)
        assert not await admin.fetch(
            "select relname from pg_class where relkind = 'S' and relname like '%\\_ids'"
        )
        await assert_consistent(admin)

    async def _sell(self, connection: Connection, number: int) -> None:
        """As the release before does: holds, orders, counts."""
        cart = json.dumps([{"productId": "lamp", "quantity": 1}])
        held = await connection.fetchval("select reserve_stock($1, $2::jsonb)", f"c{number}", cart)
        token = json.loads(held)["token"]
        await connection.fetchval(
            "select complete_order(reservation => $1, payment => $2)", token, f"p{number}"
        )
        await connection.fetch("select adjust_stock('lamp', null, 1, 'received')")
        await connection.fetch(
            "select * from apply_counts('till', clock_timestamp(), $1::jsonb)",
            json.dumps([{"productId": "lamp", "count": 10000 + number}]),
        )
