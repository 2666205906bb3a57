"""Workers: as many as one likes, nothing done twice, and nothing lost with one that is killed."""

import asyncio
import json
import logging
import random
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest

from stream_server.background import running
from stream_server.database.migrations import sql_folder
from stream_server.database.pool import Pool
from stream_server.metrics import Metrics
from stream_server.worker import Worker
from tests.support.clients import calling
from tests.support.commands import working
from tests.support.invariants import assert_consistent

Connection: TypeAlias = "asyncpg.Connection[Any]"
Connect: TypeAlias = Callable[[], Awaitable[Connection]]

OPEN = "select count(*) from reservations where status = 'active'"


@pytest.fixture
async def db(connection: Connection) -> Connection:
    """20 products of 1000 units."""
    await connection.execute(
        "insert into products (id, name, base_price, max_quantity)"
        " select 'p' || n, 'P', 1, 1000 from generate_series(0, 19) n"
    )
    return connection


async def hold(db: Connection, count: int, seconds: float = 0) -> None:
    """Reservations of one to three products that are over `seconds` from now."""
    rng = random.Random(count)
    for number in range(count):
        lines = [
            {"productId": f"p{product}", "quantity": rng.randint(1, 3)}
            for product in rng.sample(range(20), rng.randint(1, 3))
        ]
        await db.execute(
            "select reserve_stock($1, $2::text::jsonb, make_interval(secs => 600))",
            f"checkout-{number}-{rng.random()}",
            json.dumps(lines),
        )
    await db.execute(
        "update reservations set expires_at = clock_timestamp() + make_interval(secs => $1)"
        " where status = 'active' and checkout_token like 'checkout-%'",
        seconds,
    )


def worker(pool: Pool, **options: Any) -> Worker:
    return Worker(pool, Metrics(), timedelta(minutes=60), **options)


async def _until(question: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(30):
        while not await question():  # noqa: ASYNC110  # another process changes it
            await asyncio.sleep(0.01)


class TestSweep:
    async def test_all_that_is_over_ends_and_what_is_not_stays(
        self, pool: Pool, db: Connection
    ) -> None:
        await hold_more(db)
        await hold(db, 250)
        mine = worker(pool)
        assert await mine.sweep() == 250
        assert await db.fetchval(OPEN) == 1
        assert (
            mine.metrics.registry.get_sample_value("stream_server_expired_reservations_total")
            == 250
        )
        assert await db.fetchval("select sum(reserved_quantity) from products") == 1
        await assert_consistent(db)

    async def test_one_product_that_is_locked_keeps_only_its_own_holds(
        self, pool: Pool, db: Connection, connect: Connect
    ) -> None:
        await hold(db, 250)
        theirs = (
            "select count(distinct l.reservation_id) from reservation_lines l join reservations r"
            " on r.id = l.reservation_id where l.product_id = 'p7' and r.status = 'active'"
        )
        kept = await db.fetchval(theirs)
        other = await connect()
        async with other.transaction(), asyncio.timeout(20):
            await other.execute("select from products where id = 'p7' for update")
            assert await worker(pool).sweep() == 250 - kept
            assert (await db.fetchval(OPEN), await db.fetchval(theirs)) == (kept, kept)
        assert await worker(pool).sweep() == kept
        await assert_consistent(db)

    async def test_a_portion_of_which_none_can_be_ended_keeps_nobody_waiting(
        self, db: Connection, connect: Connect
    ) -> None:
        """The oldest holds each have a product that is locked and one that is not."""
        both = '[{"productId": "p1", "quantity": 1}, {"productId": "p2", "quantity": 1}]'
        await db.execute(
            "select reserve_stock('both' || n, $1) from generate_series(1, 20) n", both
        )
        await db.execute(
            "select reserve_stock('one' || n, $1) from generate_series(1, 5) n",
            '[{"productId": "p3", "quantity": 1}]',
        )
        await db.execute(
            "update reservations set expires_at = now() - interval '1 hour'"
            " + id * interval '1 second'"
        )
        importing, other = await connect(), await connect()
        async with importing.transaction(), asyncio.timeout(20):
            await importing.execute("select from products where id = 'p2' for no key update")
            async with db.transaction():
                assert await db.fetchval("select expire_reservations(10)") == 5
                await other.execute("select from products where id = 'p1' for update nowait")
            assert await db.fetchval("select expire_reservations(10)") == 0
            assert await db.fetchval(OPEN) == 20
        assert await db.fetchval("select expire_reservations(10)") == 10
        await assert_consistent(db)

    async def test_holds_that_end_at_the_same_moment_are_each_looked_at(
        self, db: Connection, connect: Connect
    ) -> None:
        await db.execute(
            "select reserve_stock('c' || n, jsonb_build_array(jsonb_build_object("
            "'productId', 'p' || n % 2, 'quantity', 1))) from generate_series(1, 10) n"
        )
        await db.execute("update reservations set expires_at = now() - interval '1 hour'")
        other = await connect()
        async with other.transaction(), asyncio.timeout(20):
            await other.execute("select from products where id = 'p1' for no key update")
            ended = [await db.fetchval("select expire_reservations(2)") for _ in range(6)]
        assert sum(ended) == 5

    async def test_two_workers_at_once_end_nothing_twice(self, pool: Pool, db: Connection) -> None:
        await hold(db, 300)
        ended = 0
        async with asyncio.timeout(30):
            while await db.fetchval(OPEN):  # what others work on is left for the next time
                ended += sum(await asyncio.gather(*(worker(pool).sweep() for _ in range(4))))
        assert ended == 300
        assert await db.fetchval("select sum(reserved_quantity) from products") == 0
        actors = await db.fetch(
            "select distinct actor from inventory_log where operation = 'expire'"
        )
        assert [row["actor"] for row in actors] == ["sweeper"]
        await assert_consistent(db)

    async def test_it_sweeps_again_and_again_whatever_the_database_does_meanwhile(
        self, pool: Pool, db: Connection, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its sleeps are the test's: each one ends when the test says so."""
        asleep: asyncio.Queue[float] = asyncio.Queue()
        wake: asyncio.Queue[None] = asyncio.Queue()

        async def sleep(seconds: float) -> None:
            if seconds < 3:  # the sweeper's
                asleep.put_nowait(seconds)
                await wake.get()
            else:
                await asyncio.Event().wait()

        mine = worker(pool, sleep=sleep)
        async with running(mine.loops, mine.metrics), asyncio.timeout(30):
            assert 1.8 <= await asleep.get() <= 2
            await hold(db, 3)
            wake.put_nowait(None)
            await asleep.get()
            assert await db.fetchval(OPEN) == 0
            await db.execute(
                "create or replace function expire_reservations(most integer default 100)"
                " returns integer language plpgsql as $$ begin"
                " raise exception 'no' using errcode = 'XX000'; end $$"
            )
            with caplog.at_level(logging.WARNING):
                wake.put_nowait(None)
                await asleep.get()
            assert "Postgres refuses it (XX000): no" in caplog.text
            assert "Traceback" not in caplog.text
            await db.execute(
                (sql_folder() / "functions/reservations/expire_reservations.sql").read_text()
            )
            await hold(db, 3)
            wake.put_nowait(None)
            await asleep.get()
            assert await db.fetchval(OPEN) == 0


async def hold_more(db: Connection) -> None:
    await db.execute(
        """select reserve_stock('later', '[{"productId": "p0", "quantity": 1}]',
                                make_interval(secs => 600))"""
    )


class TestOtherLoops:
    async def test_the_lag_of_each_source_is_a_metric_and_past_its_limit_an_alert(
        self, pool: Pool, db: Connection
    ) -> None:
        await db.execute(
            "insert into sync_state (source, last_occurred_at, last_delay) values"
            " ('erp', now() - interval '2 hours', '0'), ('till', now(), '0')"
        )
        workers = [worker(pool) for _ in range(3)]
        await asyncio.gather(*(each.check_lag() for each in workers))
        rows = await db.fetch("select source, level from stock_alerts")
        assert [tuple(row) for row in rows] == [("erp", "lag")]
        for each in workers:
            lag = each.metrics.registry.get_sample_value
            assert 7200 <= (lag("stream_server_sync_lag_seconds", {"source": "erp"}) or 0) < 7300
            assert 0 <= (lag("stream_server_sync_lag_seconds", {"source": "till"}) or 0) < 100

    async def test_what_is_too_old_is_forgotten(self, pool: Pool, db: Connection) -> None:
        await db.execute(
            """
            insert into idempotency_keys (actor, key, fingerprint, created_at) values
                ('a', 'old', 'x', now() - interval '31 days'), ('a', 'new', 'x', now());
            insert into webhook_events (id, type, signed_at, received_at) values
                ('old', 'x', 1, now() - interval '31 days'), ('new', 'x', 1, now());
            insert into stock_alerts (product_id, level, message, closed_at) values
                ('p0', 'out', 'x', now() - interval '91 days'),
                ('p0', 'out', 'x', now() - interval '89 days');
            insert into stock_alerts (product_id, level, message, opened_at) values
                ('p0', 'shortfall', 'x', now() - interval '1 year');
            """
        )
        await asyncio.gather(worker(pool).prune(), worker(pool).prune())
        assert await db.fetchval("select string_agg(key, ' ') from idempotency_keys") == "new"
        assert await db.fetchval("select string_agg(id, ' ') from webhook_events") == "new"
        assert await db.fetchval("select count(*) from stock_alerts") == 2

    async def test_holds_that_ended_long_ago_are_forgotten_but_not_those_with_an_order(
        self, pool: Pool, db: Connection
    ) -> None:
        await hold(db, 7)
        ids = [row["id"] for row in await db.fetch("select id from reservations order by id")]
        await db.execute(
            "select complete_order(token) from reservations where id = any ($1)", ids[:2]
        )
        await db.execute(
            "select release_reservation(token) from reservations where id = any ($1)", ids[2:6]
        )
        await db.execute(
            "update reservations set ended_at = now() - interval '31 days' where id = any ($1)",
            ids[1:5],
        )
        await asyncio.gather(worker(pool).prune(), worker(pool).prune())
        left = [row["id"] for row in await db.fetch("select id from reservations order by id")]
        assert left == [*ids[:2], *ids[5:]]
        lines = await db.fetch("select distinct reservation_id from reservation_lines order by 1")
        assert [row[0] for row in lines] == left

    async def test_a_job_that_another_worker_is_at_is_left_to_it(
        self, pool: Pool, db: Connection, connect: Connect
    ) -> None:
        await db.execute(
            "insert into sync_state (source, last_occurred_at, last_delay)"
            " values ('erp', now() - interval '2 hours', '0')"
        )
        other = await connect()
        transaction = other.transaction()
        await transaction.start()
        await other.execute("select pg_advisory_xact_lock($1, 1)", int.from_bytes(b"work"))
        await worker(pool).check_lag()
        assert await db.fetchval("select count(*) from stock_alerts") == 0
        other.terminate()
        await _until(lambda: _checked(pool, db))

    async def test_a_database_that_is_away_is_waited_for(
        self, pool: Pool, db: Connection, database_url: str
    ) -> None:
        """Every connection is cut, again and again; the worker goes on."""
        mine = worker(pool, sleep=_soon)
        await hold(db, 50)
        async with running(mine.loops, mine.metrics):
            for _ in range(5):
                await db.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                )
                await hold(db, 10)
            await _until(lambda: _is_zero(db))
        await assert_consistent(db)


async def _soon(_: float) -> None:
    await asyncio.sleep(0.02)


async def _checked(pool: Pool, db: Connection) -> bool:
    await worker(pool).check_lag()
    return bool(await db.fetchval("select count(*) from stock_alerts"))


async def _is_zero(db: Connection) -> bool:
    return bool(await db.fetchval(OPEN) == 0)


class TestProcess:
    async def test_it_works_until_it_is_told_to_stop(
        self, database_url: str, db: Connection
    ) -> None:
        await hold(db, 5)
        for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
            async with working(database_url) as process:
                await hold(db, 5)
                await _until(lambda: _is_zero(db))
                process.send_signal(number)
                _, err = await asyncio.wait_for(process.communicate(), 20)
                assert process.returncode == code
                assert b"Traceback" not in err

    async def test_it_waits_for_the_database_and_its_schema(self, empty_database_url: str) -> None:
        async with working(empty_database_url) as process:
            assert process.stderr is not None
            while b"Run: stream-server migrate" not in (line := await process.stderr.readline()):
                assert line
            process.terminate()
            await asyncio.wait_for(process.wait(), 20)

    async def test_its_metrics_can_be_scraped(
        self, database_url: str, db: Connection, port: int
    ) -> None:
        await hold(db, 5)
        async with working(database_url, WORKER_METRICS_PORT=str(port)):
            await _until(lambda: _is_zero(db))
            async with calling(f"http://127.0.0.1:{port}") as client:
                await _until(lambda: _says(client))

    async def test_killed_workers_leak_nothing_and_do_nothing_twice(
        self, database_url: str, db: Connection, connect: Connect
    ) -> None:
        """Must hold 4. Workers are killed at random moments while reservations end; they wait for
        the log, which somebody has locked, so that a kill hits them in the middle of it."""
        rng = random.Random(4)
        blocker = await connect()
        for turn in range(4):
            await hold(db, 120 + turn)  # another number, other checkouts
            block = blocker.transaction()
            await block.start()
            await blocker.execute("lock table inventory_log in share mode")
            async with working(database_url) as first, working(database_url) as second:
                await _until(lambda: _someone_waits(db))
                (first, second)[turn % 2].kill()
                await asyncio.sleep(rng.uniform(0, 0.05))
                await block.rollback()
                if turn % 2:
                    first.kill()
                else:
                    await _until(lambda: _is_zero(db))
        async with working(database_url):
            await _until(lambda: _is_zero(db))
        assert await db.fetchval("select sum(reserved_quantity) from products") == 0
        expired = await db.fetchval("select count(*) from reservations where status = 'expired'")
        assert expired == 120 + 121 + 122 + 123
        await assert_consistent(db)


async def _someone_waits(db: Connection) -> object:
    return await db.fetchval(
        "select exists (select from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock')"
    )


async def _says(client: httpx.AsyncClient) -> bool:
    try:
        text = (await client.get("/metrics")).text
    except httpx.ConnectError:
        return False
    return "stream_server_expired_reservations_total 5.0" in text
