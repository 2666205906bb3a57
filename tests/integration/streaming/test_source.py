"""The source against a real Postgres: nothing that is committed is missed, asleep or awake, and
nothing is found late; what happens when Postgres goes away."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, example, given, note, settings

from stream_server.database import embedded
from stream_server.database.embedded import embedded_postgres
from stream_server.database.migrations import migrate
from stream_server.database.pool import Pool
from stream_server.metrics import Metrics
from stream_server.streaming.hub import Hub
from stream_server.streaming.source import Source
from stream_server.web.product_json import PublicEncoder
from tests.support.clients import calling, reading, ready
from tests.support.postgres import BINARIES
from tests.support.servers import (
    PATIENCE,
    Connection,
    Server,
    add_products,
    app_on,
    assert_complete,
    caught_up,
    sell,
    serving,
    started,
    until,
)

Connect = Callable[[], Awaitable[Connection]]


class Follower:
    """A source on its own, without a server."""

    def __init__(self, url: str, *, safety_read: float, sleep_after: float) -> None:
        self.metrics = Metrics()
        self.hub = Hub(PublicEncoder())
        self.source = Source(
            url, self.hub, self.metrics, awake_read=0.005, sleep_after=sleep_after,
            safety_read=safety_read,
        )  # fmt: skip

    def state(self) -> str:
        value = self.metrics.registry.get_sample_value
        states = ("lost", "awake", "drowsy", "asleep")
        return next(each for each in states if value("stream_server_source_state", {"state": each}))

    async def enters(self, state: str, within: float = PATIENCE) -> None:
        await until(lambda: self.state() == state, state, within)

    def unannounced(self) -> float:
        return self.metrics.registry.get_sample_value("stream_server_unannounced_rows_total") or 0.0


@asynccontextmanager
async def following(
    url: str, *, safety_read: float = 60.0, sleep_after: float = 0.02
) -> AsyncIterator[Follower]:
    follower = Follower(url, safety_read=safety_read, sleep_after=sleep_after)
    task = asyncio.create_task(follower.source.run())
    try:
        await until(lambda: follower.hub.is_live)
        yield follower
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# What a writer, and the test, may do next.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 2), st.integers(0, 5)),
        st.tuples(st.just("commit"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("roll back"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("await"), st.sampled_from(["awake", "drowsy", "asleep"]), st.just(0)),
        st.tuples(st.just("turn"), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("see"), st.just(0), st.just(0)),
    ),
    min_size=3,
    max_size=25,
)


@settings(
    max_examples=25,
    deadline=None,
    print_blob=True,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(steps=[("write", 0, 0), ("await", "asleep", 0), ("commit", 0, 0)], safety_read=60.0)
@given(steps=STEPS, safety_read=st.sampled_from([60.0, 60.0, 0.05]))
async def test_no_change_waits_for_the_safety_read_however_writers_and_sleep_interleave(
    database_url: str, connect: Connect, steps: list[tuple[str, Any, int]], safety_read: float
) -> None:
    """Transactions are held open across sleep and wake; each writer has products of its own."""
    observer = await connect()
    if not await observer.fetchval("select count(*) from products"):
        await add_products(observer, 18)
    writers = [await connect() for _ in range(3)]
    open_transactions: dict[int, Any] = {}
    note(f"safety read every {safety_read} s")
    async with following(database_url, safety_read=safety_read) as follower:
        for action, which, number in steps:
            if action == "write":
                if which not in open_transactions:
                    open_transactions[which] = writers[which].transaction()
                    await open_transactions[which].start()
                await writers[which].execute(
                    "update products set sold_quantity = (sold_quantity + 1) % 900 where id = $1",
                    f"unit-{which * 6 + number:05}",
                )
            elif action in ("commit", "roll back"):
                transaction = open_transactions.pop(which, None)
                if transaction is not None:
                    await (transaction.commit() if action == "commit" else transaction.rollback())
            elif action == "await":
                # Not every state comes while transactions are open or changes pour in.
                with suppress(AssertionError):
                    await follower.enters(which, within=0.05)
            elif action == "turn":
                for _ in range(which):
                    await asyncio.sleep(0)
            else:
                await caught_up(follower.hub, observer, within=5)
        for transaction in open_transactions.values():
            await transaction.commit()
        await caught_up(follower.hub, observer, within=5)
        await assert_complete(follower.hub, observer)
        assert follower.unannounced() == 0
    for each in (observer, *writers):
        await each.close()


async def test_a_source_that_sleeps_is_woken_by_one_change(
    database_url: str, connection: Connection
) -> None:
    await add_products(connection, 1)
    async with following(database_url) as follower:
        for number in range(1, 4):
            await follower.enters("asleep")
            await sell(connection, "unit-00000")
            await caught_up(follower.hub, connection, within=5)
            assert follower.hub.entries["unit-00000"].product.sold_quantity == number


async def test_it_does_not_fall_asleep_beside_a_transaction_that_may_commit_unannounced(
    database_url: str, connection: Connection, connect: Connect
) -> None:
    """One that wrote while nobody slept has not notified, and never will."""
    await add_products(connection, 2)
    other = await connect()
    async with following(database_url, sleep_after=0.2) as follower:
        assert follower.state() == "awake"
        transaction = connection.transaction()
        await transaction.start()
        await sell(connection, "unit-00000", 5)
        await follower.enters("drowsy")
        for _ in range(3):  # it goes on reading beside the open transaction
            await sell(other, "unit-00001")
            await caught_up(follower.hub, other, within=5)
        assert follower.state() == "drowsy"
        await transaction.commit()
        await caught_up(follower.hub, other, within=5)
        await follower.enters("asleep")
        await assert_complete(follower.hub, other)
        assert follower.unannounced() == 0


async def test_many_wake_ups_a_second_keep_it_awake_and_then_nobody_notifies(
    database_url: str, connection: Connection, connect: Connect
) -> None:
    await add_products(connection, 1)
    listener = await connect()
    notified: list[object] = []
    await listener.add_listener("stock_changes", lambda *args: notified.append(args))
    async with following(database_url, sleep_after=2.0) as follower:
        await follower.enters("asleep")
        async with asyncio.timeout(10):
            while follower.state() == "asleep":
                await sell(connection, "unit-00000")
        await listener.execute("select 1")
        before = len(notified)
        assert before > 0
        for _ in range(20):
            await sell(connection, "unit-00000")
        await listener.execute("select 1")
        assert len(notified) == before
        await caught_up(follower.hub, connection, within=5)


async def test_a_change_that_nobody_announced_is_found_and_counted(
    database_url: str, connection: Connection
) -> None:
    """The metric that must stay 0 does count: here somebody has switched announcing off."""
    await add_products(connection, 1)
    async with following(database_url, safety_read=0.1) as follower:
        await follower.enters("asleep")
        await connection.execute(
            "create or replace function announce_changes(product_ids text[]) returns void"
            " language sql as ''"
        )
        await sell(connection, "unit-00000")
        await until(lambda: follower.unannounced() == 1)
        await assert_complete(follower.hub, connection)


async def test_a_long_backlog_is_read_in_pages_and_a_longer_one_as_a_new_state(
    database_url: str, connection: Connection, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a variant written in an older transaction than its product's own."""
    for bound, loads in ((50_000, 0), (3_000, 1)):
        monkeypatch.setattr("stream_server.streaming.source._MAX_BACKLOG", bound)
        prefix = f"{'a' if loads else 'b'}-"
        async with following(database_url) as follower:
            loaded = 0
            load = follower.source._load

            async def counted(connection: Connection, load: Any = load) -> None:
                nonlocal loaded
                loaded += 1
                await load(connection)

            gate = asyncio.Event()
            read = follower.source._read

            async def when_allowed(
                connection: Connection, read: Any = read, gate: asyncio.Event = gate
            ) -> Any:
                await gate.wait()
                return await read(connection)

            await follower.enters("asleep")
            monkeypatch.setattr(follower.source, "_load", counted)
            monkeypatch.setattr(follower.source, "_read", when_allowed)
            early = await connect()
            transaction = early.transaction()
            await transaction.start()
            await early.execute("select pg_current_xact_id()")
            async with connection.transaction():
                ids = await add_products(connection, 5_000, prefix)
            await early.execute(
                "insert into variants (id, product_id, variant_value) select id || '!', id, 'Oak'"
                " from unnest($1::text[]) id",
                ids[:50],
            )
            await transaction.commit()
            gate.set()
            await caught_up(follower.hub, connection, within=5)
            await assert_complete(follower.hub, connection)
            assert loaded == loads


# Losses


@pytest.mark.ways("direct-uvloop", "portable")
async def test_a_source_that_is_killed_again_and_again_under_load_misses_nothing(
    server: Server, connection: Connection, connect: Connect
) -> None:
    """Streams stay open and are told; polling says stale; /readyz 503, then 200."""
    ids = await add_products(connection, 4)
    await server.published(connection)
    writer = await connect()
    is_over = False

    async def write() -> None:
        number = 0
        while not is_over:
            number += 1
            await writer.execute(
                "update products set sold_quantity = $1 where id = $2",
                number % 1000,
                ids[number % 4],
            )

    async with (
        reading(f"{server.url}/api/inventory/stream") as stream,
        calling(server.url) as client,
    ):
        await stream.opened()
        writing = asyncio.create_task(write())
        for _ in range(5):
            await server.live()
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'stream-server source'"
                " and datname = current_database()"
            )
            await stream.until("source", lambda data: data == {"live": False})
            if not server.hub.is_live:  # it comes back within a tenth of a second
                poll = await client.get("/api/inventory/unit-00000")
                assert poll.json().get("stale") is (None if server.hub.is_live else True)
            await stream.until("source", lambda data: data == {"live": True})
        is_over = True
        await writing
        await server.live()
        await ready(client)
        expected = {
            row["id"]: row["sold_quantity"]
            for row in await connection.fetch("select id, sold_quantity from products")
        }
        await server.published(connection)
        await assert_complete(server.hub, connection)
        await connection.execute("update products set base_price = 1 where id = 'unit-00003'")
        await stream.until("inventory_updated", lambda data: data["price"] == 1)
        last = {
            each["productId"]: each["soldQuantity"] for each in stream.named("inventory_updated")
        }
        assert last == expected
        poll = await client.get("/api/inventory/unit-00000")
        assert "stale" not in poll.json()
    assert server.metric("source_losses_total") == 5
    assert server.metric("loop_failures_total", loop="source") == 0
    assert server.metric("unannounced_rows_total") == 0


@pytest.fixture
def own_postgres(tmp_path: Path) -> Any:
    """A server of the test's own, which it may restart."""
    with embedded_postgres(tmp_path, throwaway=True, binaries=BINARIES) as postgres:
        yield postgres


@pytest.mark.ways("direct-uvloop")
async def test_while_postgres_restarts_streams_stay_open_and_then_begin_anew(
    own_postgres: embedded.EmbeddedPostgres, http: str
) -> None:
    """Nobody can tell a restart from a backup that was put back under a stopped server."""
    url = own_postgres.url
    await migrate(url)
    cluster = embedded._Cluster(
        own_postgres.log.parent / "postgres", own_postgres.binaries, embedded._user(), True
    )
    connection: Connection = await asyncpg.connect(url)
    await add_products(connection, 1)
    async with (
        serving(url, http=http) as server,
        reading(f"{server.url}/api/inventory/unit-00000/stream") as stream,
        calling(server.url) as client,
    ):
        await stream.next("snapshot")
        etag = (await client.get("/api/inventory/unit-00000")).headers["etag"]
        connection.terminate()
        await asyncio.to_thread(cluster.stop)
        assert await stream.next("source") == {"live": False}
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "source_lost"
        poll = await client.get("/api/inventory/unit-00000", headers={"If-None-Match": etag})
        assert poll.status_code == 200  # what has not changed is stale all the same
        assert poll.json()["stale"] is True
        async with reading(f"{server.url}/api/inventory/stream") as late:
            assert (await late.opened())["live"] is False
        await asyncio.to_thread(cluster.start, own_postgres, embedded.THROWAWAY)
        connection = await asyncpg.connect(url)
        await sell(connection, "unit-00000", 7)
        assert (await stream.rest())[-1].event == "ping"
        assert stream.retry is not None
        await ready(client)
        await server.published(connection)
        one = f"{server.url}/api/inventory/unit-00000/stream"
        async with reading(one, last_id=stream.last_id) as back:
            await back.next("reset")
            await sell(connection, "unit-00000", 1)
            await back.until("inventory_updated", lambda data: data["soldQuantity"] == 8)
        await assert_complete(server.hub, connection)
        assert "stale" not in (await client.get("/api/inventory/unit-00000")).json()
    connection.terminate()


async def test_it_is_ready_when_it_has_connections_for_all_else_too(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody who is sent here gets a 503 for an order, as the source was quicker than the pool."""
    allowed = asyncio.Event()
    connect = Pool.connect

    async def late(self: Pool, **options: Any) -> None:
        await allowed.wait()
        await connect(self, **options)

    monkeypatch.setattr(Pool, "connect", late)
    async with started(app_on(database_url)) as server, calling(server.url) as client:
        await server.live()
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
        allowed.set()
        await ready(client)
        assert (await client.post("/api/reservations", json={})).status_code < 500


async def test_without_a_database_it_serves_says_so_and_is_ready_when_there_is_one(
    tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """/healthz 200, all else 503 in the envelope; the log names the host and no password."""
    url = f"postgresql://postgres:swordfish@127.0.0.1:{port}/postgres"
    with caplog.at_level(logging.DEBUG):
        async with started(app_on(url)) as server, calling(server.url) as client:
            assert (await client.get("/healthz")).status_code == 200
            for path in ("/readyz", "/api/inventory", "/api/inventory/x"):
                response = await client.get(path)
                assert response.status_code == 503
                assert response.json()["success"] is False
                assert response.json()["error"]["code"] in ("source_lost", "unavailable")
            tried = [each for each in caplog.messages if f"127.0.0.1:{port}" in each]
            await until(
                lambda: [each for each in caplog.messages if f"127.0.0.1:{port}" in each] > tried,
                "it tries again",
            )
            settings = {"listen_addresses": "127.0.0.1", "port": str(port)}
            with embedded_postgres(tmp_path, settings=settings, throwaway=True, binaries=BINARIES):
                own = f"postgresql://postgres@127.0.0.1:{port}/postgres"
                await migrate(own)
                await ready(client)
                connection: Connection = await asyncpg.connect(own)
                await add_products(connection, 1)
                await server.published(connection)
                assert (await client.get("/api/inventory/unit-00000")).status_code == 200
                await connection.close()
    assert "swordfish" not in caplog.text
