"""Through PgBouncer in transaction mode, as it is by default, with the real commands: everything
works, and the sessions, which are everybody's, stay as they were."""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import stripe

from stream_server.database.poolers import connect_for_session
from stream_server.database.urls import with_schema
from tests.support.bouncer import URLOf, bouncer
from tests.support.catalogue_files import as_json, catalogue
from tests.support.commands import run, serving, status, working
from tests.support.invariants import assert_consistent
from tests.support.servers import serving as serving_here
from tests.support.shop import CATALOGUE, SECRET, WEBHOOK_SECRET, bearer
from tests.support.stripe_events import event, session
from tests.support.surroundings import IS_PLAIN, PASSWORD, POOLED_SESSIONS, SCHEMA, opened, straight
from tests.support.templates import Templates

Connection: TypeAlias = "asyncpg.Connection[Any]"

# What a session has that the next one may notice.
SESSION = """
select (select json_object_agg(name, setting order by name) from pg_settings
         where name not in ('application_name', 'transaction_isolation')
           and name not like 'plpgsql.%') as settings,  -- there once a function was called
       array(select current_setting('stream_server.' || name, true)
               from unnest(array['actor', 'operation', 'reason', 'batch_id']) name) as ours,
       current_user || ' as ' || session_user as role,
       (select array_agg(name) from pg_prepared_statements) as statements,
       (select array_agg(name) from pg_cursors where statement not like '%pg_cursors%') as cursors,
       (select array_agg(relname) from pg_class
         where relnamespace = pg_my_temp_schema()) as temporary_tables,
       (select count(*) from pg_locks
         where locktype = 'advisory' and pid = pg_backend_pid()) as locks,
       array(select pg_listening_channels()) as channels
"""


@pytest.fixture
def direct(database_url: str) -> str:
    return straight(database_url)


def of(pooled: URLOf, direct: str) -> str:
    """The same database through the pooler."""
    return pooled(urlsplit(direct).path.strip("/"))


@contextmanager
def listening_at(url: str) -> Iterator[None]:
    """What runs in the block has this LISTEN_DATABASE_URL."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LISTEN_DATABASE_URL", url)
        yield


async def until(question: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(60):
        while not await question():  # noqa: ASYNC110  # another process changes it
            await asyncio.sleep(0.02)


@asynccontextmanager
async def a_strangers(url: str) -> AsyncIterator[Connection]:
    """A connection that sets nothing and prepares nothing."""
    plain = url.replace(f"schema={SCHEMA.replace(' ', '%20')}", "").rstrip("?&")
    connection = await asyncpg.connect(plain, statement_cache_size=0)
    try:
        yield connection
    finally:
        connection.terminate()


async def state(connection: Connection) -> dict[str, Any]:
    row = await connection.fetchrow(SESSION)
    assert row is not None
    # Postgres gives a name of a setting that once was local its empty text for ever.
    ours = [value or None for value in row["ours"]]
    return {**row, "settings": json.loads(row["settings"]), "ours": ours}


async def assert_untouched(pooled_url: str, direct: str) -> None:
    """Whoever gets one of the pooler's sessions finds it as a new one is."""
    async with a_strangers(direct) as fresh:
        new = await state(fresh)
    async with AsyncExitStack() as stack:
        backends = set()
        for _ in range(POOLED_SESSIONS):  # each keeps another session, so that all are seen
            stranger = await stack.enter_async_context(a_strangers(pooled_url))
            await stack.enter_async_context(stranger.transaction())
            backends.add(await stranger.fetchval("select pg_backend_pid()"))
            found = await state(stranger)
            assert found.keys() == new.keys()
            for what in new:
                assert found[what] == new[what], what
        assert len(backends) == POOLED_SESSIONS


async def test_all_commands_work_through_a_pooler_and_leave_its_sessions_as_they_were(
    empty_database_url: str, pooled: URLOf, tmp_path: Any
) -> None:
    direct = straight(empty_database_url)
    through = of(pooled, direct)
    with listening_at(direct):
        migrated = await run("migrate", database_url=through)
        assert migrated.returncode == 0, migrated.stderr
        assert "Applied triggers.sql" in migrated.stdout
        shop = await opened(direct)
        try:
            await imports(shop, through, tmp_path)
            await shop.execute(CATALOGUE)
            await sweeps(shop, through)
            await serves(shop, through)
            await assert_consistent(shop)
        finally:
            shop.terminate()
    await assert_untouched(through, direct)


async def imports(shop: Connection, through: str, folder: Any) -> None:
    small, large = folder / "small.json", folder / "large.json"
    small.write_bytes(as_json(catalogue(1)))
    done = await run("import", str(small), database_url=through)
    assert done.returncode == 0, done.stderr

    large.write_bytes(as_json(catalogue(3000)))
    await shop.execute("begin; select from products for update")
    task = asyncio.create_task(run("import", str(large), database_url=through))
    newest = "select status, phase, row_count from import_batches order by id desc limit 1"

    async def is_told() -> bool:
        row = await shop.fetchrow(newest)
        assert row is not None
        return bool(row["status"] == "running" and row["row_count"] > 3000)

    await until(is_told)
    await shop.execute("rollback")
    done = await task
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3000 products")


async def sweeps(shop: Connection, through: str) -> None:
    for number in range(20):
        await shop.execute(
            "select reserve_stock($1, $2::text::jsonb, interval '1 ms')",
            f"over {number}",
            '[{"productId": "bulb", "quantity": 1}]',
        )
    async with working(through) as process:

        async def is_swept() -> bool:
            active = "select count(*) from reservations where status = 'active'"
            return bool(await shop.fetchval(active) == 0)

        await until(is_swept)
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0
        assert b"Traceback" not in err
        assert b"WARNING" not in err, err.decode()


async def serves(shop: Connection, through: str) -> None:
    secrets = {"secret_key": SECRET, "stripe_webhook_secret": WEBHOOK_SECRET}
    statuses: Counter[tuple[str, int]] = Counter()
    with serving(database_url=through, database_wait_seconds="60", **secrets) as (process, url):
        await status(f"{url}/readyz", 200)
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120) as client:

            async def ask(number: int) -> None:
                method, path, options = REQUESTS[number % len(REQUESTS)](number)
                answer = await client.request(method, path, **options)
                statuses[path, answer.status_code] += 1

            await asyncio.gather(*(ask(number) for number in range(128)))
            stock = (await client.get("/api/inventory/bulb")).json()["data"]
        process.send_signal(signal.SIGTERM)
        log, _ = await asyncio.to_thread(process.communicate, timeout=20)
    assert statuses.total() == 128
    assert {code for _, code in statuses} <= {200, 201, 409}, statuses
    assert "Traceback" not in log
    assert stock["availableQuantity"] == await shop.fetchval(
        "select available_quantity from products where id = 'bulb'"
    )


def _line(product_id: str) -> dict[str, Any]:
    return {"productId": product_id, "quantity": 1}


def _reservation(number: int, *lines: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    body = {"checkoutToken": f"c {number}", "lines": lines}
    return "POST", "/api/reservations", {"json": body}


def _order(number: int) -> tuple[str, str, dict[str, Any]]:
    body = {"lines": [_line("bulb")], "paymentReference": f"pi {number}"}
    return "POST", "/api/orders", {"json": body, "headers": bearer("shop")}


def _webhook(number: int) -> tuple[str, str, dict[str, Any]]:
    fields = session("00000000-0000-0000-0000-000000000000", intent=f"pi webhook {number}")
    body = event("checkout.session.completed", f"evt {number}", **fields)
    signature = stripe.WebhookSignature.generate_signature_header(
        body.decode(), WEBHOOK_SECRET, timestamp=int(time.time())
    )
    return (
        "POST",
        "/api/webhooks/stripe",
        {"content": body, "headers": {"Stripe-Signature": signature}},
    )


def _report(number: int) -> tuple[str, str, dict[str, Any]]:
    body = {
        "source": f"till {number % 16}",
        "occurredAt": datetime.now(UTC).isoformat(),
        "counts": [{"productId": "candle", "count": 40}],
    }
    return "POST", "/api/admin/sync", {"json": body, "headers": bearer("shop")}


REQUESTS: list[Callable[[int], tuple[str, str, dict[str, Any]]]] = [
    lambda number: _reservation(number, _line("bulb")),
    lambda number: _reservation(number, _line("lamp"), _line("torch")),
    lambda _: ("GET", "/products/lamp", {}),
    lambda _: ("GET", "/api/products", {"params": {"q": "lamp"}}),
    lambda _: ("GET", "/api/products/shirt", {}),
    _order,
    _webhook,
    _report,
]


# Where LISTEN_DATABASE_URL is not set


TOLD = "LISTEN_DATABASE_URL must lead straight to Postgres"


async def test_whatever_needs_a_session_says_what_to_set_and_sets_nothing(
    direct: str, pooled: URLOf
) -> None:
    through = of(pooled, direct)
    with listening_at(""):
        for command in (["migrate"], ["import", "-"], ["new-epoch"]):
            done = await run(*command, database_url=through, stdin=b"[]")
            assert done.returncode == 1
            assert TOLD in done.stderr
            assert done.stderr.count("\n") == 1

        async with working(through) as process:
            assert process.stderr is not None
            async with asyncio.timeout(30):
                while TOLD.encode() not in (line := await process.stderr.readline()):
                    assert line
            process.terminate()
            await process.wait()

        with serving(database_url=through) as (process_, url):

            async def is_told() -> bool:
                answer = await status(f"{url}/readyz", 503)
                assert answer.json()["error"]["code"] == "source_lost"
                return TOLD in answer.text

            await until(is_told)
            process_.send_signal(signal.SIGTERM)
            log, _ = await asyncio.to_thread(process_.communicate, timeout=20)
        assert TOLD in log
        assert "Traceback" not in log
    await assert_untouched(through, direct)


async def test_a_pooler_at_work_is_known_for_one(direct: str, pooled: URLOf) -> None:
    """The session that we have just had may have gone to a third one."""
    through = of(pooled, direct)
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(a_strangers(through)) for _ in range(8)]

        async def work(connection: Connection) -> None:
            while True:
                await connection.execute("select pg_sleep(0.001)")

        tasks = [asyncio.create_task(work(connection)) for connection in others]
        try:
            for _ in range(10):
                with pytest.raises(ConnectionError, match=TOLD):
                    await connect_for_session(
                        through, application_name="a test", parameters={}, timeout=10
                    )
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_pooler_that_gives_us_a_session_of_our_own_will_do(
    direct: str, postgres: str, templates: Templates
) -> None:
    role = templates.surroundings.role
    with bouncer(postgres, role, PASSWORD, pool_mode="session") as url_of:
        url = of(url_of, direct)
        done = await run("migrate", database_url=url if IS_PLAIN else with_schema(url, SCHEMA))
        assert done.stdout == "The database is up to date\n", done.stderr


# The database's default isolation


@pytest.mark.parametrize("way", ["direct", "pooled"])
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_the_databases_default_isolation_does_not_matter(
    direct: str, pooled: URLOf, superuser: Connection, connection: Connection, level: str, way: str
) -> None:
    """Those who ask for the same at once wait for one another: with an old snapshot, they would
    fail then."""
    await connection.execute(CATALOGUE)
    database = await connection.fetchval("select current_database()")
    await superuser.execute(
        f"alter database \"{database}\" set default_transaction_isolation = '{level}'"
    )
    url = of(pooled, direct) if way == "pooled" else direct
    statuses: Counter[int] = Counter()
    async with (
        serving_here(
            url,
            listen_database_url=direct,
            secret_key=SECRET,
            database_wait_seconds=60,
            reservation_rate="",
        ) as server,
        httpx.AsyncClient(base_url=server.url, timeout=120) as client,
    ):

        async def ask(request: tuple[str, str, dict[str, Any]]) -> None:
            method, path, options = request
            answer = await client.request(method, path, **options)
            statuses[answer.status_code] += 1
            assert answer.status_code in (200, 201, 409), answer.text

        for number in range(10):  # one checkout, eight times at once
            two = _reservation(number, _line("candle"), _line("torch"))
            await asyncio.gather(*(ask(two) for _ in range(8)))
            one = _reservation(100 + number, _line("candle"))
            await asyncio.gather(*(ask(one) for _ in range(8)))
        active = "select count(*) from reservations where status = 'active'"
        assert await connection.fetchval(active) == 20
        await asyncio.gather(*(ask(_order(number)) for number in range(130)))
    bulbs = "select sold_quantity from products where id = 'bulb'"
    assert await connection.fetchval(bulbs) == 100
    assert statuses[409] == 30
    await assert_consistent(connection)
