"""When streams begin and end: before the server is ready, when it is full, when it stops.

A browser's EventSource comes back from a stream that ends or breaks, and never from a status other
than 200 (the HTML standard, 9.2.3). So no stream may get one that would pass by itself.
"""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from stream_server.app import started as started_app
from stream_server.server import Server as StreamServer
from stream_server.streaming.source import Source
from stream_server.web.stream_limits import StreamLimit, UnknownIds
from tests.support.clients import Stream, calling, connected, get, reading
from tests.support.ports import reserved_port
from tests.support.servers import (
    Connection,
    Server,
    add_products,
    app_on,
    sell,
    serving,
    started,
    until,
)

ONE = "/api/inventory/unit-00000/stream"
SEVERAL = "/api/inventory/stream?productIds=unit-00000,unit-00001,missing"
ALL = "/api/inventory/stream"


@pytest.fixture
def may_load(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """No source reads the products before this is set."""
    event = asyncio.Event()
    load = Source._load

    async def later(self: Source, connection: Any) -> None:
        await event.wait()
        await load(self, connection)

    monkeypatch.setattr(Source, "_load", later)
    return event


@asynccontextmanager
async def loading(database_url: str, http: str, **overrides: Any) -> AsyncIterator[Server]:
    """A server that has not read the database yet."""
    async with started(app_on(database_url, **overrides), http=http) as server:
        yield server


# Before the server is ready


async def test_a_stream_that_comes_too_early_is_held_and_then_begins(
    database_url: str, http: str, connection: Connection, may_load: asyncio.Event
) -> None:
    """The head and pings come meanwhile, so that no proxy gives up."""
    await add_products(connection, 2)
    async with (
        loading(database_url, http, stream_ping_seconds=0.3) as server,
        reading(server.url + ONE) as one,
        reading(server.url + SEVERAL) as several,
        reading(server.url + ALL) as everything,
    ):
        for stream in (one, several, everything):
            await stream.next("ping", skip="")
            await stream.next("ping", skip="")
        may_load.set()
        assert [each["productId"] for each in (await one.next())["products"]] == ["unit-00000"]
        assert [each.event for each in one.events if each.event != "ping"] == ["snapshot"]
        assert one.last_id
        assert (await several.next("snapshot"))["unknown"] == ["missing"]
        await everything.next("reset")
        assert len((await everything.next("snapshot"))["products"]) == 2
        await server.ready()
        await sell(connection, "unit-00000")
        for stream in (one, several, everything):
            data = await stream.until("inventory_updated", lambda data: True)
            assert data["soldQuantity"] == 1


async def test_who_resumes_too_early_gets_what_it_missed_and_nothing_else(
    database_url: str, http: str, connection: Connection, may_load: asyncio.Event
) -> None:
    await add_products(connection, 3)
    may_load.set()
    async with serving(database_url, http=http) as server, reading(server.url + ALL) as before:
        await server.published(connection)
        await before.opened()
    may_load.clear()
    await sell(connection, "unit-00001")
    async with (
        loading(database_url, http) as server,
        reading(server.url + ALL, last_id=before.last_id) as back,
    ):
        may_load.set()
        snapshot = await back.next("snapshot")
        assert [each["productId"] for each in snapshot["products"]] == ["unit-00001"]


async def test_an_early_stream_of_a_product_that_is_not_there_ends_and_is_a_404_then(
    database_url: str, http: str, connection: Connection, may_load: asyncio.Event
) -> None:
    async with loading(database_url, http) as server:
        async with reading(server.url + ONE) as stream:
            may_load.set()
            assert [each.event for each in await stream.rest()] == ["ping"]
            assert stream.retry is not None
        async with calling(server.url) as client:
            assert (await client.get(ONE)).status_code == 404
        assert server.open_streams == 0


async def test_an_early_client_that_leaves_is_forgotten(
    database_url: str, http: str, may_load: asyncio.Event
) -> None:
    async with loading(database_url, http) as server:
        async with connected(server.port) as raw:
            await raw.send(get(ONE))
            await raw.read_until(b":\n\n")
            assert len(server.hub.held) == server.open_streams == 1
        await until(lambda: not server.open_streams, "it is forgotten")
        assert not server.hub.held


async def test_a_server_that_stops_before_it_was_ready_says_farewell(
    database_url: str, http: str, may_load: asyncio.Event
) -> None:
    async with loading(database_url, http) as server, reading(server.url + ALL) as stream:
        await until(lambda: server.open_streams == 1)
        assert server.uvicorn is not None
        server.uvicorn.should_exit = True
        assert [each.event for each in await stream.rest()] == ["ping"]
        assert stream.retry is not None


async def test_polls_are_refused_until_the_server_is_ready(
    database_url: str, http: str, may_load: asyncio.Event
) -> None:
    async with loading(database_url, http) as server, calling(server.url) as client:
        response = await client.get("/api/inventory/unit-00000")
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0


# When it is full


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_stream_too_many_is_told_when_to_come_back(
    server: Server, connection: Connection, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    await add_products(connection, 1)
    await server.published(connection)
    monkeypatch.setattr(StreamLimit, "has_room", lambda *_: False)
    times = set()
    for _ in range(8):
        async with connected(server.port) as raw:
            await raw.send(get(ONE, version=version))
            answer = await raw.read_to_end()  # the connection ends, too
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 200 " in head.partition(b"\r\n")[0]
        assert b"content-type: text/event-stream" in head.lower()
        assert body.startswith(b"retry: ")
        times.add(int(body.removeprefix(b"retry: ")))
    assert len(times) > 1
    assert all(2_500 <= time <= 12_500 for time in times)
    assert server.open_streams == 0


@pytest.mark.parametrize("bounds", [{"max_per_address": 5}, {"max_total": 5}])
async def test_streams_show_so_many_ids_that_no_product_has(
    server: Server, connection: Connection, bounds: dict[str, int]
) -> None:
    """Else one client could fill the memory with them."""
    await add_products(connection, 1)
    await server.published(connection)
    server.app.state.unknown_ids = UnknownIds(**bounds)
    path = server.url + "/api/inventory/stream?productIds=unit-00000,"
    async with reading(path + "a,b,c") as first:
        assert (await first.next("snapshot"))["unknown"] == ["a", "b", "c"]
        async with calling(server.url) as client:
            assert (await client.get(path + "d,e,f")).text.startswith("retry: ")
        assert server.metric("limited_total", what="unknown ids") == 1
        async with reading(path + "d,e") as other, reading(server.url + ONE) as known:
            await other.next("snapshot")
            await known.next("snapshot")
    await until(lambda: not server.open_streams)
    async with reading(path + "d,e,f,g,h") as again:
        await again.next("snapshot")


# When it stops


@pytest.mark.settings(stream_drain_seconds=3)
async def test_a_poll_that_comes_while_streams_end_does_not_wait(
    server: Server, connection: Connection
) -> None:
    """Each that waited is answered at once, and asks again at once: it must not hold up the end."""
    await add_products(connection, 1)
    await server.published(connection)
    assert server.uvicorn is not None
    async with AsyncExitStack() as stack:
        for _ in range(150):  # so many that their farewells take all of the time
            stream = await stack.enter_async_context(reading(server.url + ONE))
            await stream.next("snapshot")
        client = await stack.enter_async_context(calling(server.url))
        etag = (await client.get("/api/inventory/unit-00000")).headers["etag"]
        server.uvicorn.should_exit = True
        await until(lambda: server.app.state.is_draining)
        assert server.open_streams
        poll = client.get("/api/inventory/unit-00000?wait=60", headers={"If-None-Match": etag})
        response = await asyncio.wait_for(poll, 2.5)
        assert response.status_code == 304
        assert response.headers["connection"] == "close"
    await until(lambda: not server.open_streams)


async def test_a_balancer_is_told_before_the_listener_closes(
    database_url: str, connection: Connection
) -> None:
    await add_products(connection, 1)
    app = app_on(database_url)
    config = uvicorn.Config(app, lifespan="on", log_config=None, ws="none")
    config.load()
    server = StreamServer(config, app, drain_delay=60)
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    task = asyncio.create_task(server._serve([listening]))  # serve() would take the signals
    async with reading_when_ready(app, url) as stream:
        server.should_exit = True
        await until(lambda: app.state.is_leaving)
        async with calling(url) as client:  # on a new connection
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/api/inventory/unit-00000")).status_code == 200
        await sell(connection, "unit-00000")
        await stream.next("inventory_updated")
        server.force_exit = True  # as a second Ctrl-C
        await task


@asynccontextmanager
async def reading_when_ready(app: Starlette, url: str) -> AsyncIterator[Stream]:
    await until(lambda: app.state.hub.is_live)
    async with reading(url + ONE) as stream:
        await stream.next("snapshot")
        yield stream


# In another application


async def test_mounted_it_says_what_it_lacks_or_runs(
    database_url: str, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await add_products(connection, 1)
    stock = app_on(database_url)
    alone = Starlette(routes=[Mount("/stock", stock)])

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with started_app(stock):
            yield

    whole = Starlette(routes=[Mount("/stock", stock)], lifespan=lifespan)
    alone.state = whole.state = stock.state  # as PromptServer wants it
    async with started(alone) as server, calling(server.url) as client:
        for path in ("/stock/api/inventory/unit-00000", "/stock" + ONE, "/stock/readyz"):
            response = await client.get(path)
            assert response.status_code == 503
            assert "stream_server.app.started()" in response.json()["error"]["message"]
        complaints = [each for each in caplog.records if "lifespan" in each.getMessage()]
        assert len(complaints) == 1  # however many requests there are
    async with started(whole) as server, calling(server.url) as client:
        await until(lambda: stock.state.hub.is_live)
        assert (await client.get("/stock/api/inventory/unit-00000")).status_code == 200
        async with reading(server.url + "/stock" + ONE) as stream:
            await stream.next("snapshot")
            await sell(connection, "unit-00000")
            await stream.next("inventory_updated")


async def test_another_server_runs_it_and_its_streams_say_farewell(
    database_url: str, connection: Connection
) -> None:
    """Each of them, though they are told over two seconds."""
    await add_products(connection, 1)
    with reserved_port() as port:
        process = subprocess.Popen(  # noqa: ASYNC220  # it is watched, not waited for
            [sys.executable, "-m", "uvicorn", "--port", str(port), "stream_server.asgi:app"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "DATABASE_URL": database_url},
        )
        try:
            await accepting(port)
            async with AsyncExitStack() as stack:
                streams = []
                for _ in range(100):
                    raw = await stack.enter_async_context(connected(port))
                    await raw.send(get(ONE))
                    await raw.read_until(b"event: snapshot")
                    streams.append(raw)
                process.terminate()
                for raw in streams:
                    *_, farewell, end = (await raw.read_to_end()).split(b"\n\n")
                    assert re.search(rb"event: ping\n.*\nretry: \d+$", farewell), farewell
                    assert end == b"\r\n0\r\n\r\n"
            await asyncio.to_thread(process.wait, 20)
        finally:
            process.kill()
            process.wait()


async def accepting(port: int) -> None:
    for _ in range(400):
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)  # until the process listens, of which nothing else tells
    raise TimeoutError
