"""The command, as people and scripts run it: a process, its output and its exit code."""

import asyncio
import json
import signal
import socket
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest

from tests.support.clients import connected, get
from tests.support.commands import run, serving, status
from tests.support.servers import add_products

Connection: TypeAlias = "asyncpg.Connection[Any]"

PASSWORD = "correct-horse-battery"
CART = b'{"checkoutToken":"c","lines":[{"productId":"unit-00000","quantity":1}]}'
RESERVE = (
    b"POST /api/reservations HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(CART), CART)
)


async def has_closed(port: int) -> None:
    """Returns once the server accepts nobody any more."""
    with suppress(ConnectionRefusedError):
        async with asyncio.timeout(30):
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await asyncio.sleep(0.02)


async def somebody_waits(connection: Connection) -> None:
    """Returns once another session waits for what this one has locked."""
    waits = (
        "select exists (select from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock')"
    )
    async with asyncio.timeout(30):
        while not await connection.fetchval(waits):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class TestMigrate:
    async def test_it_prints_what_it_applied_and_the_second_time_nothing(
        self, empty_database_url: str
    ) -> None:
        first = await run("migrate", database_url=empty_database_url)
        assert first.returncode == 0
        assert "Applied migrations/0001_catalogue.sql" in first.stdout
        assert "Applied triggers.sql" in first.stdout

        second = await run("migrate", database_url=empty_database_url)
        assert second.returncode == 0
        assert second.stdout == "The database is up to date\n"

    async def test_a_wrong_address_is_told_with_its_host_and_without_its_password(self) -> None:
        url = f"postgresql://shop:{PASSWORD}@127.0.0.1:1/shop"
        done = await run("migrate", database_url=url)
        assert done.returncode == 1
        assert "127.0.0.1:1" in done.stderr
        assert PASSWORD not in done.stdout + done.stderr

    async def test_without_a_database_it_says_what_to_set(self) -> None:
        done = await run("migrate")
        assert done.returncode == 1
        assert "DATABASE_URL" in done.stderr
        assert "--data-dir" in done.stderr


class TestImport:
    async def test_a_file_is_imported_with_who_and_why(
        self, database_url: str, connection: Connection, tmp_path: Path
    ) -> None:
        file = tmp_path / "products.json"
        file.write_text(json.dumps([{"id": "A", "name": "A", "basePrice": 100}]))

        done = await run("import", str(file), database_url=database_url)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "1 products with 0 variants: 1 added, 0 changed, 0 as they were\n"
        row = await connection.fetchrow("select actor, operation, reason from inventory_log")
        assert row is not None
        assert tuple(row) == ("tester", "import", "import of products.json")

        again = await run("import", str(file), database_url=database_url)
        assert again.stdout == "1 products with 0 variants: 0 added, 0 changed, 1 as they were\n"

    async def test_each_wrong_row_is_a_line_with_file_line_and_reason(
        self, database_url: str, connection: Connection, tmp_path: Path
    ) -> None:
        file = tmp_path / "products.json"
        file.write_text(
            '[\n {"id": "A", "name": "A", "basePrice": 1},\n'
            ' {"id": "B", "name": "B", "basePrice": 1.5},\n {"id": "C"}\n]'
        )
        done = await run("import", str(file), database_url=database_url)
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            f"{file}:3:40: [1].basePrice: expected a whole number of cents, 0 to 2147483647,"
            " got 1.5 (B)",
            f"{file}:4:2: [2].name: missing (the row is new) (C)",
            f"{file}:4:2: [2].basePrice: missing (the row is new) (C)",
            f"Error: 3 found in {file}; nothing was changed",
        ]
        assert await connection.fetchval("select count(*) from products") == 0

    async def test_it_reads_what_is_piped_in(self, database_url: str) -> None:
        file = b'[{"id": "A", "name": "A", "basePrice": 100}]'
        done = await run("import", "-", database_url=database_url, stdin=file)
        assert done.returncode == 0, done.stderr

    async def test_a_file_that_is_not_there_is_a_wrong_argument(self, database_url: str) -> None:
        done = await run("import", "nowhere.json", database_url=database_url)
        assert done.returncode == 2
        assert "nowhere.json" in done.stderr

    async def test_a_database_without_the_schema_is_told_what_to_run(
        self, empty_database_url: str
    ) -> None:
        done = await run("import", "-", database_url=empty_database_url, stdin=b"[]")
        assert done.returncode == 1
        assert "stream-server migrate" in done.stderr


class TestNewEpoch:
    async def test_it_renews_the_epoch_and_tells_the_servers_that_run(
        self, database_url: str, connection: Connection
    ) -> None:
        before = await connection.fetchval("select epoch from stream_epoch")
        told: asyncio.Queue[str] = asyncio.Queue()
        await connection.add_listener(
            "stock_changes", lambda *arguments: told.put_nowait(str(arguments[3]))
        )

        done = await run("new-epoch", database_url=database_url)
        assert done.returncode == 0, done.stderr
        after = await connection.fetchval("select epoch from stream_epoch")
        assert after != before
        assert f"is now {after}" in done.stdout
        assert "restore" in done.stdout
        assert await asyncio.wait_for(told.get(), timeout=5) == '["*"]'


class TestServe:
    async def test_it_serves_and_ends_with_0_at_sigterm(self, database_url: str) -> None:
        with serving(database_url=database_url) as (process, url):
            response = await status(f"{url}/readyz", 200)
            assert "server" not in response.headers
            process.send_signal(signal.SIGTERM)
            rest, _ = await asyncio.to_thread(process.communicate, timeout=15)
        assert process.returncode == 0
        assert "Traceback" not in rest

    async def test_an_open_stream_does_not_keep_it_from_ending(self, database_url: str) -> None:
        with serving(database_url=database_url) as (process, url):
            await status(f"{url}/readyz", 200)
            async with (
                httpx.AsyncClient(timeout=20) as client,
                client.stream("GET", f"{url}/api/inventory/stream") as stream,
            ):
                chunks = stream.aiter_raw()
                await anext(chunks)
                process.send_signal(signal.SIGINT)
                async for _ in chunks:  # up to the proper end of the response
                    pass
            await asyncio.to_thread(process.wait, timeout=15)
        assert process.returncode == 130

    @pytest.mark.parametrize(
        ("first", "second", "code"),
        [
            (signal.SIGINT, signal.SIGINT, 130),
            (signal.SIGTERM, signal.SIGTERM, 143),
            (signal.SIGTERM, signal.SIGINT, 130),
        ],
    )
    async def test_a_second_signal_ends_it_at_once(
        self, database_url: str, connection: Connection, first: int, second: int, code: int
    ) -> None:
        """Whoever is still served: streams that would end over a minute, a request that waits."""
        await add_products(connection, 1)
        settings = {"stream_drain_seconds": "60", "database_lock_seconds": "60"}
        with serving(database_url=database_url, **settings) as (process, url):
            await status(f"{url}/readyz", 200)
            port = int(url.rpartition(":")[2])
            async with AsyncExitStack() as stack:
                for _ in range(200):
                    stream = await stack.enter_async_context(connected(port))
                    await stream.send(get("/api/inventory/stream"))
                    await stream.read_until(b"event: snapshot")
                async with connection.transaction():
                    await connection.execute("lock table products")
                    waiting = await stack.enter_async_context(connected(port))
                    await waiting.send(RESERVE)
                    await somebody_waits(connection)
                    process.send_signal(first)
                    await has_closed(port)
                    started = time.monotonic()
                    process.send_signal(second)
                    rest, _ = await asyncio.to_thread(process.communicate, timeout=15)
                    assert time.monotonic() - started < 2
        assert process.returncode == code
        assert "WARNING A second signal: requests that are cut off: 1; streams: " in rest
        assert "Traceback" not in rest

    async def test_while_the_database_is_away_it_says_so_and_goes_on(self) -> None:
        url = f"postgresql://shop:{PASSWORD}@127.0.0.1:1/shop"
        with serving(database_url=url) as (process, address):
            await status(f"{address}/healthz", 200)
            await status(f"{address}/readyz", 503)
            process.send_signal(signal.SIGTERM)
            log, _ = await asyncio.to_thread(process.communicate, timeout=15)
        assert process.returncode == 0
        assert "127.0.0.1:1" in log
        assert PASSWORD not in log

    async def test_a_port_that_is_taken_is_told(self, database_url: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            done = await run("serve", "--port", port, database_url=database_url)
        assert done.returncode == 1
        assert f"PORT: {port} on 127.0.0.1 cannot be used: Address already in use" in done.stderr

    async def test_a_host_that_is_none_is_told(self, database_url: str) -> None:
        done = await run("serve", "--host", "no.such.host.invalid", database_url=database_url)
        assert done.returncode == 1
        assert "HOST: no.such.host.invalid" in done.stderr

    async def test_without_a_database_it_says_what_to_set(self) -> None:
        done = await run("serve")
        assert done.returncode == 1
        assert "DATABASE_URL" in done.stderr

    async def test_a_postgres_of_its_own_is_made_migrated_and_stopped(self) -> None:
        # Not pytest's temporary folder, which other users cannot pass through.
        with (
            tempfile.TemporaryDirectory(prefix="stream-server-test-") as temporary,
            serving("--data-dir", temporary) as (process, url),
        ):
            folder = Path(temporary)
            await status(f"{url}/readyz", 200)
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait, timeout=30)
            assert process.returncode == 0
            assert (folder / "postgres" / "PG_VERSION").exists()
            assert not (folder / "postgres" / "postmaster.pid").exists()
