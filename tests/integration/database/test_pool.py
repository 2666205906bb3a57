"""The pool: what comes out of Postgres, whole transactions tried again, failures by name."""

import asyncio
import logging
import random
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import asyncpg
import pytest

from stream_server.database.pool import Pool
from stream_server.database.transactions import Queries, in_transaction
from stream_server.errors import (
    DatabaseUnavailable,
    ImpossibleChange,
    InvalidSettings,
    TransactionConflict,
)

Connection: TypeAlias = "asyncpg.Connection[Any]"
SECRET = "swordfish"


@pytest.fixture
async def pool(empty_database_url: str) -> AsyncIterator[Pool]:
    async with Pool(empty_database_url, max_size=4) as pool:
        await pool.execute("create table shelf (id text primary key, units int not null)")
        await pool.execute("insert into shelf values ('a', 10), ('b', 10)")
        yield pool


class Waits:
    """Stands for sleeping: remembers for how long, and does not."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


async def units(queries: Queries) -> dict[str, int]:
    rows = await queries.fetch_all("select id, units from shelf order by id")
    return {row["id"]: row["units"] for row in rows}


async def take(queries: Queries, shelf: str) -> None:
    await queries.execute("update shelf set units = units - 1 where id = :id", {"id": shelf})


async def test_values_go_in_by_name_and_rows_come_out_by_column(pool: Pool) -> None:
    assert await pool.fetch_one("select units from shelf where id = :id", {"id": "a"}) == {
        "units": 10
    }
    assert await pool.fetch_one("select 1 from shelf where id = :id", {"id": "'; drop"}) is None
    assert (
        await pool.fetch_val("select count(*) from shelf where id = any(:ids)", {"ids": ["a"]}) == 1
    )
    assert await pool.fetch_val("select cast(:doc as jsonb) ->> 'n'", {"doc": '{"n": 5}'}) == "5"


async def test_an_error_rolls_the_transaction_back_and_is_raised_as_it_is(pool: Pool) -> None:
    async def work(connection: Queries) -> None:
        await take(connection, "a")
        raise OSError("no database's")

    with pytest.raises(OSError, match="no database's"):
        await in_transaction(pool, work)
    assert await units(pool) == {"a": 10, "b": 10}


async def test_a_deadlock_is_tried_again_and_both_changes_are_made(pool: Pool) -> None:
    met = asyncio.Barrier(2)
    attempts = 0

    def taker(first: str, second: str) -> Callable[[Queries], Awaitable[None]]:
        async def work(connection: Queries) -> None:
            nonlocal attempts
            attempts += 1
            await take(connection, first)
            if attempts <= 2:
                await met.wait()
            await take(connection, second)

        return work

    waits = Waits()
    await asyncio.gather(
        *(
            in_transaction(pool, taker(*order), sleep=waits, rng=random.Random(1))
            for order in (("a", "b"), ("b", "a"))
        )
    )
    assert await units(pool) == {"a": 8, "b": 8}
    assert attempts == 3
    assert len(waits.seconds) == 1


async def test_a_serialization_failure_is_tried_again(pool: Pool) -> None:
    """At REPEATABLE READ the second of two writers of one row is refused with 40001."""
    attempts = 0

    async def work(connection: Queries) -> int:
        nonlocal attempts
        attempts += 1
        await connection.execute("set transaction isolation level repeatable read")
        seen: int = await connection.fetch_val("select units from shelf where id = 'a'")
        if attempts == 1:
            other = asyncio.create_task(
                take(pool, "a")
            )  # a task of its own, a connection of its own
            await other
        await take(connection, "a")
        return seen

    assert await in_transaction(pool, work, sleep=Waits()) == 9
    assert attempts == 2
    assert (await units(pool))["a"] == 8


async def test_trying_again_ends_and_waits_longer_each_time(pool: Pool) -> None:
    attempts = 0

    async def work(connection: Queries) -> None:
        nonlocal attempts
        attempts += 1
        await take(connection, "a")
        await connection.execute(
            "do $$ begin raise exception 'no lock' using errcode = 'lock_not_available'; end $$"
        )

    class Latest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    waits = Waits()
    with pytest.raises(TransactionConflict):
        await in_transaction(pool, work, attempts=4, sleep=waits, rng=Latest())
    assert attempts == 4
    assert waits.seconds == [0.02, 0.04, 0.08]
    assert await units(pool) == {"a": 10, "b": 10}


async def test_a_refused_commit_gives_the_connection_back(pool: Pool) -> None:
    await pool.execute(
        "create table box (shelf text references shelf deferrable initially deferred)"
    )

    async def work(connection: Queries) -> None:
        await connection.execute("insert into box values ('no such shelf')")

    for _ in range(5):  # more often than the pool has connections
        with pytest.raises(ImpossibleChange, match="foreign key"):
            await in_transaction(pool, work)
    async with asyncio.timeout(10):
        assert await asyncio.gather(*(pool.fetch_val("select 1") for _ in range(4))) == [1] * 4


async def test_transactions_do_not_nest(pool: Pool) -> None:
    async def outer(connection: Queries) -> None:
        await in_transaction(pool, units)

    with pytest.raises(RuntimeError, match="nest"):
        await in_transaction(pool, outer)
    assert await in_transaction(pool, units) == {"a": 10, "b": 10}


async def test_a_cancelled_transaction_leaves_nothing(pool: Pool) -> None:
    taken = asyncio.Event()

    async def work(connection: Queries) -> None:
        await take(connection, "a")
        taken.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(in_transaction(pool, work))
    await taken.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await units(pool) == {"a": 10, "b": 10}


async def test_a_killed_connection_is_unavailable_and_its_task_gets_another(pool: Pool) -> None:
    async def work(connection: Queries) -> None:
        pid = await connection.fetch_val("select pg_backend_pid()")
        await asyncio.create_task(pool.execute("select pg_terminate_backend(:pid)", {"pid": pid}))
        await connection.execute("select 1")

    with pytest.raises(DatabaseUnavailable):
        await in_transaction(pool, work)
    assert await units(pool) == {"a": 10, "b": 10}


async def test_a_pool_that_is_not_connected_says_so() -> None:
    with pytest.raises(DatabaseUnavailable, match="db/shop: not connected"):
        await Pool(f"postgresql://u:{SECRET}@db/shop").fetch_val("select 1")


async def test_it_says_where_it_tries_and_waits_longer_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    waits = Waits()
    with caplog.at_level(logging.DEBUG), pytest.raises(DatabaseUnavailable) as caught:
        await Pool(f"postgresql://shop:{SECRET}@127.0.0.1:1/shop").connect(
            patience=30, sleep=waits, rng=random.Random(1)
        )
    assert "shop:***@127.0.0.1:1/shop" in caught.value.message
    tries = [r for r in caplog.records if "127.0.0.1:1/shop" in r.getMessage() and r.levelno == 30]
    assert len(tries) == len(waits.seconds) > 5
    assert max(waits.seconds) <= 5
    assert waits.seconds[0] <= 0.1
    assert sum(waits.seconds) >= 30
    assert SECRET not in caplog.text


async def test_waiting_ends_when_postgres_lets_us_in(
    postgres: str, empty_database_url: str
) -> None:
    admin: Connection = await asyncpg.connect(postgres)
    name = urlsplit(empty_database_url).path.removeprefix("/")
    await admin.execute(f'alter database "{name}" allow_connections false')

    async def allow(_: float) -> None:
        await admin.execute(f'alter database "{name}" allow_connections true')

    pool = Pool(empty_database_url, max_size=1)
    await pool.connect(patience=None, sleep=allow)
    assert await pool.fetch_val("select 1") == 1
    await pool.disconnect()
    await admin.close()


async def test_what_waiting_does_not_mend_fails_at_once(empty_database_url: str) -> None:
    waits = Waits()
    with pytest.raises(DatabaseUnavailable, match="does not exist"):
        await Pool(empty_database_url.replace("/test_", "/missing_")).connect(
            patience=None, sleep=waits
        )
    assert waits.seconds == []


@pytest.mark.parametrize(
    "url",
    [f"postgresql://shop:pa/{SECRET}@db/shop", f"postgresql://db:{SECRET}/shop", SECRET],
)
async def test_a_malformed_url_is_refused_at_once_without_quoting_it(url: str) -> None:
    with pytest.raises(InvalidSettings, match="DATABASE_URL") as caught:
        Pool(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
