"""Streams as connections: slow and rude clients, other servers, TLS, shutdown, and what is left
of a stream when it is over (nothing)."""

import asyncio
import gc
import gzip
import json
import os
import re
import resource
import ssl
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from stream_server.streaming import publisher
from stream_server.streaming.connection import GzipConnection, StreamConnection
from stream_server.streaming.frames import Frame, event
from stream_server.streaming.hub import Hub
from stream_server.streaming.response import BodySubscriber, GzipBody
from stream_server.streaming.subscriber import Subscriber
from tests.support.clients import Raw, calling, connected, get, reading, ready
from tests.support.miniature import parsed
from tests.support.servers import (
    Connection,
    Server,
    add_products,
    sell,
    serving,
    under_hypercorn,
    until,
)

Connect = Callable[[], Awaitable[Connection]]

direct = pytest.mark.ways("direct-uvloop", "direct-asyncio")
ONE = "/api/inventory/unit-00000/stream"
ALL = "/api/inventory/stream"


def body_of(received: bytes) -> bytes:
    """A response's body, without the head and the chunks' frames."""
    head, _, rest = received.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return rest
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert rest == b"\r\n"
            return body
        body, rest = body + rest[:length], rest[length:]
        assert rest.startswith(b"\r\n")
        rest = rest[2:]


@pytest.fixture
async def stock(server: Server, connection: Connection) -> Server:
    """Three products."""
    await add_products(connection, 3)
    await server.published(connection)
    return server


# The same bytes


@direct
@pytest.mark.parametrize(
    ("coding", "kinds"),
    [("identity", {StreamConnection, BodySubscriber}), ("gzip", {GzipConnection, GzipBody})],
)
async def test_another_server_sends_the_same_bytes(
    stock: Server, connection: Connection, coding: str, kinds: set[type[Subscriber]]
) -> None:
    """hypercorn, and uvicorn with the connection taken over, for one sequence of events; as gzip,
    too, whole to its last byte."""
    paths = [ONE, ALL, f"{ALL}?productIds=unit-00000,unit-00002,missing", f"{ALL}?lastEventId=x.1"]
    async with under_hypercorn(stock.app) as portable, httpx.AsyncClient(timeout=15) as client:

        async def whole(url: str) -> tuple[dict[str, str], bytes]:
            headers = {"Accept-Encoding": coding}
            async with client.stream("GET", url, headers=headers) as response:
                assert response.status_code == 200
                assert response.headers["vary"] == "Accept-Encoding"
                body = b"".join([part async for part in response.aiter_raw()])
                if coding == "gzip":
                    assert response.headers["content-encoding"] == "gzip"
                    body = gzip.decompress(body)  # raises an error if the end does not fit
                return dict(response.headers), body

        bodies = [
            asyncio.create_task(whole(f"{server.url}{path}"))
            for path in paths
            for server in (stock, portable)
        ]
        await until(lambda: stock.open_streams == len(bodies), "all are open")
        classes = {type(each) for each in stock.hub.streams()}
        assert classes == kinds
        await sell(connection, "unit-00000")
        await stock.published(connection)
        await connection.execute("update products set status = 'discontinued', name = E'\\u2028é'")
        await stock.published(connection)
        await connection.execute("update products set status = 'draft' where id = 'unit-00002'")
        await add_products(connection, 1, "missing")
        await stock.published(connection)
        await stock.app.state.drain()
        async with asyncio.timeout(15):
            answers = await asyncio.gather(*bodies)
    for (one_head, one), (other_head, other) in zip(answers[::2], answers[1::2], strict=True):
        *events, farewell, end = one.split(b"\n\n")
        *others, other_farewell, _ = other.split(b"\n\n")
        assert events == others
        assert len(events) > 3
        assert end == b""
        for bye in (farewell, other_farewell):
            assert re.fullmatch(rb'event: ping\ndata: \{"time":\d+\}\nretry: \d+', bye)
        for ignored in ("date", "server", "connection", "transfer-encoding"):
            one_head.pop(ignored, None)
            other_head.pop(ignored, None)
        assert one_head == other_head


@direct  # uvicorn's own way sends chunks all the same
async def test_a_client_of_http_1_0_gets_no_chunks(stock: Server, connection: Connection) -> None:
    async with connected(stock.port) as raw:
        await raw.send(get(ONE, version="1.0"))
        await raw.read_until(b'"live":true}')
        await sell(connection, "unit-00000")
        await raw.read_until(b"inventory_updated")
        await until(lambda: not stock.hub.pending)
        await stock.app.state.drain()
        head, _, body = (await raw.read_to_end()).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert body.startswith(b":\n\nevent: snapshot\ndata: {")
        assert body.endswith(b"\n\n")
        assert b"\r" not in body


async def test_a_stream_follows_other_requests_on_its_connection(
    stock: Server, connection: Connection
) -> None:
    """Keep-alive, and both requests in one packet: the answers come in order."""
    async with connected(stock.port) as raw:
        await raw.send(get("/healthz"))
        await raw.read_until(b'"status":"ok"}}')
        await raw.send(get("/api/inventory") + get("/api/inventory/unit-00001") + get(ONE))
        received = await raw.read_until(b"event: snapshot")
        assert received.count(b"HTTP/1.1 200") == 4
        await sell(connection, "unit-00000")
        await raw.read_until(b"inventory_updated")
    await until(lambda: stock.open_streams == 0)


# Rude clients


@direct
async def test_a_request_that_came_with_the_streams_own_does_not_end_it(
    stock: Server, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(stock.port) as raw:
        await raw.send(get(ONE) + get("/healthz"))
        await raw.read_until(b"event: snapshot")
        await sell(connection, "unit-00000")
        received = await raw.read_until(b"inventory_updated")
        assert received.count(b"HTTP/1.1") == 1
        assert stock.open_streams == 1
    await until(lambda: stock.open_streams == 0)
    assert not [each for each in caplog.records if each.name == "uvicorn.error" and
                each.levelname == "ERROR"]  # fmt: skip


@direct
async def test_what_a_client_says_on_its_stream_is_ignored(
    stock: Server, connection: Connection
) -> None:
    """A second request, garbage, one byte at a time."""
    async with connected(stock.port) as raw:
        await raw.send(get(ONE))
        await raw.read_until(b"event: snapshot")
        await raw.send(get("/healthz"))
        await raw.send(b"\x00\xff\r\n\r\nGET garbage \x16\x03\x01")
        for byte in b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n":
            await raw.send(bytes([byte]))
        await sell(connection, "unit-00000")
        received = await raw.read_until(b"inventory_updated")
        assert received.count(b"HTTP/1.1") == 1
        assert stock.open_streams == 1


@direct
async def test_a_client_that_says_too_much_is_cut_off(stock: Server) -> None:
    """10 MB, of which the server reads a few kilobytes."""
    async with connected(stock.port) as raw:
        await raw.send(get(ONE))
        await raw.read_until(b"event: snapshot")
        with suppress(ConnectionError):
            for _ in range(1000):
                await raw.send(b"x" * 10_000)
            pytest.fail("all of it was taken")
        await until(lambda: stock.open_streams == 0)


@pytest.mark.parametrize("path", [ONE, ALL])
async def test_who_goes_is_forgotten_at_once(stock: Server, path: str) -> None:
    """By a half-close, a close, a reset."""
    for go in (lambda raw: raw.writer.write_eof(), lambda raw: raw.writer.close(), Raw.reset):
        async with connected(stock.port) as raw:
            await raw.send(get(path))
            await raw.read_until(b"event: snapshot")
            assert stock.open_streams == 1
            async with calling(stock.url) as client:
                kind = "product" if path == ONE else "catalogue"
                metrics = (await client.get("/metrics")).text
                assert f'stream_server_open_streams{{kind="{kind}"}} 1.0' in metrics
            go(raw)
            await until(lambda: stock.open_streams == 0)
            assert not stock.hub.topics


# Slow clients


def kept_for(subscriber: Subscriber) -> int:
    """Bytes that the process keeps for a stream."""
    if isinstance(subscriber, BodySubscriber):
        return sum(map(len, subscriber._parts))
    assert isinstance(subscriber, StreamConnection)
    return subscriber._transport.get_write_buffer_size()


async def test_a_client_that_reads_nothing_costs_nothing_and_then_gets_the_newest_of_each(
    database_url: str, http: str, connection: Connection
) -> None:
    """10,000 changes of 50 products; another client is not disturbed."""
    async with serving(
        database_url, http=http, send_buffer=8192, stream_conflate_ms=0, stream_awake_read_ms=1
    ) as server:
        ids = await add_products(connection, 50)
        await server.published(connection)
        async with (
            connected(server.port, receive_buffer=4096) as slow,
            reading(server.url + ONE) as quick,
        ):
            await slow.send(get(ALL))
            await until(lambda: server.open_streams == 2)
            (subscriber,) = next(
                each.subscribers for each in server.hub.topics.of(ids[0]) if each.ids is None
            )
            async with asyncio.timeout(30):
                number = 0
                while not subscriber.is_full:
                    number += 1
                    await connection.execute("update products set sold_quantity = $1", number)
                    await server.published(connection)
                tracemalloc.start()
                before, _ = tracemalloc.get_traced_memory()
                for _ in range(200):
                    number += 1
                    await connection.execute("update products set sold_quantity = $1", number)
                await server.published(connection)
                await server.source.refresh()  # the rows of the read before are forgotten
                gc.collect()
                after, _ = tracemalloc.get_traced_memory()
                tracemalloc.stop()
            assert subscriber.is_full
            assert subscriber.behind == set(ids)
            assert kept_for(subscriber) < 100_000
            # 10,000 events are three megabytes. asyncpg keeps 2,000 empty records of each width.
            assert after - before < 1_000_000
            await quick.until("inventory_updated", lambda data: data["soldQuantity"] == number)

            newest = rb'"productId":"unit-\d+"[^{}]*?"soldQuantity":%d' % number
            async with asyncio.timeout(15):
                while len(re.findall(newest, slow.received[-60_000:])) < 50:
                    slow.received += await slow.reader.read(65536)
            await until(lambda: not server.hub.stalls)
            assert not subscriber.behind
            await sell(connection, "unit-00049", 2)
            await slow.read_until(b'"soldQuantity":%d' % (number + 2))
            await server.app.state.drain()
            body = body_of(await slow.read_until(b"\r\n0\r\n\r\n"))
    sold: dict[str, int] = {}
    for each in parsed(body):
        data = json.loads(each.data)
        for product in data.get("products", [data] if "productId" in data else []):
            sold[product["productId"]] = product["soldQuantity"]
    assert sold == dict.fromkeys(ids, number) | {"unit-00049": number + 2}


async def test_a_client_that_stalls_is_closed(
    database_url: str, http: str, connection: Connection
) -> None:
    async with serving(
        database_url, http=http, send_buffer=8192, stream_stall_seconds=0.3, stream_conflate_ms=0,
        stream_ping_seconds=0.6,
    ) as server:  # fmt: skip
        await add_products(connection, 100)
        await server.published(connection)
        async with connected(server.port, receive_buffer=4096) as slow:
            await slow.send(get(ALL))
            await until(lambda: server.open_streams == 1)
            while server.open_streams:
                await connection.execute(
                    "update products set sold_quantity = (sold_quantity + 1) % 100"
                )
            assert server.metric("stalled_streams_total") == 1
            assert not server.hub.stalls
            assert server.uvicorn is not None
            state = server.uvicorn.server_state
            await until(lambda: not state.tasks, "no response is left")
            await until(lambda: not living(StreamConnection, BodySubscriber), "nothing is left")
            with suppress(ConnectionResetError):
                await slow.read_to_end()


@direct
async def test_a_frame_sent_in_the_turn_of_the_handover_follows_the_snapshot(
    stock: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the transport has not yet sent what was written before."""
    subscribe = Hub.subscribe

    def and_publish(self: Hub, subscriber: Subscriber, *args: Any) -> None:
        subscribe(self, subscriber, *args)
        if subscriber.behind is None:
            subscriber.send(Frame(event("ping", b'{"time":0}')))
        else:
            assert subscriber.is_full

    monkeypatch.setattr(Hub, "subscribe", and_publish)
    for requests in (get(ONE), get("/api/inventory") * 3 + get(ONE)):
        async with connected(stock.port) as raw:
            await raw.send(requests)
            received = await raw.read_until(b'"time":0')
            stream = received[received.rindex(b"HTTP/1.1 200") :]
            assert re.search(rb"^\r\n[0-9a-f]+\r\nevent: snapshot", stream, re.MULTILINE)
            assert stream.index(b"event: snapshot") < stream.index(b"event: ping")


@direct
async def test_nothing_overtakes_an_answer_that_the_client_has_not_read_yet(
    database_url: str, http: str, connection: Connection
) -> None:
    """A stream on a connection whose earlier answers still wait in the transport."""
    async with serving(database_url, http=http, send_buffer=8192) as server:
        await add_products(connection, 300)
        await server.published(connection)
        async with connected(server.port, receive_buffer=4096) as raw:
            await raw.send(get("/api/inventory?limit=100") + get(ONE))
            await until(lambda: server.open_streams == 1)
            for _ in range(3):
                await sell(connection, "unit-00000")
                await server.published(connection)
            received = await raw.read_until(b'"soldQuantity":3')
        first, _, rest = received.partition(b"HTTP/1.1 200 OK\r\n")[2].partition(b"HTTP/1.1 200")
        length = int(re.search(rb"content-length: (\d+)", first).group(1))  # type: ignore[union-attr]
        assert len(first.partition(b"\r\n\r\n")[2]) == length
        assert rest.count(b"HTTP/1.1") == 0
        assert re.match(
            rb"3\r\n:\n\n\r\n[0-9a-f]+\r\nevent: snapshot", rest.partition(b"\r\n\r\n")[2]
        )


# Pings


@pytest.mark.settings(stream_ping_seconds=0.3)
async def test_every_stream_is_pinged_within_the_interval(stock: Server) -> None:
    """By named events, which a page can watch."""
    async with asyncio.timeout(10):
        async with reading(stock.url + ONE) as first:
            await first.next("ping", skip="snapshot")
            async with reading(stock.url + ALL) as second:
                for stream in (first, second):
                    times = []
                    for _ in range(3):
                        data = await stream.until("ping", lambda data: True)
                        times.append(data["time"])
                    gaps = [b - a for a, b in pairwise(times)]
                    assert all(100 < gap < 2000 for gap in gaps), gaps


# TLS


async def test_streams_work_over_tls(database_url: str, http: str, connection: Connection) -> None:
    authority = trustme.CA()
    for_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(for_server)
    for_client = ssl.create_default_context()
    authority.configure_trust(for_client)
    async with serving(database_url, http=http, tls=for_server) as server:
        await add_products(connection, 3)
        await server.published(connection)
        url = server.url.replace("127.0.0.1", "localhost")
        async with reading(url + ONE, verify=for_client) as stream:
            await stream.next("snapshot")
            for number in (1, 2):
                await sell(connection, "unit-00000")
                assert (await stream.next("inventory_updated"))["soldQuantity"] == number
        await until(lambda: server.open_streams == 0)
        async with connected(server.port, tls=for_client) as raw:
            await raw.send(get(ONE))
            await raw.read_until(b"event: snapshot")
            raw.reset()
            await until(lambda: server.open_streams == 0)


# Shutdown


@pytest.mark.settings(stream_drain_seconds=0.3)
async def test_a_shutdown_tells_each_stream_when_to_come_back_and_ends_it(
    stock: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "_SLICE", 1)  # so that ten streams take all of the time
    assert stock.uvicorn is not None
    urls = [stock.url + path for path in (ONE, ALL) for _ in range(5)]

    async def follow(url: str) -> tuple[list[str], int | None]:
        async with reading(url) as stream:
            rest = await stream.rest()
            return [each.event for each in rest], stream.retry

    streams = [asyncio.create_task(follow(url)) for url in urls]
    await until(lambda: stock.open_streams == len(urls))
    async with calling(stock.url) as client, calling(stock.url) as other:
        for each in (client, other):
            assert (await each.get("/readyz")).status_code == 200
        stock.uvicorn.should_exit = True
        await until(lambda: stock.app.state.is_draining)
        response = await client.get("/readyz")  # on a connection from before
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "shutting_down"
        assert response.headers["connection"] == "close"
        response = await other.get(ONE)  # another status would end an EventSource for good
        assert response.status_code == 200
        assert re.fullmatch(r"retry: \d+\n\n", response.text)
    async with asyncio.timeout(10):
        ended = await asyncio.gather(*streams)
    assert {events[-1] for events, _ in ended} == {"ping"}
    assert all(events[-2:-1] == ["snapshot"] for events, _ in ended), ended
    times = [retry for _, retry in ended]
    assert all(time is not None and 1000 <= time <= 5000 for time in times)
    assert len(set(times)) > 1
    assert stock.open_streams == 0


@pytest.mark.settings(stream_drain_seconds=0.1)
async def test_a_waiting_poll_is_answered_at_shutdown(stock: Server) -> None:
    assert stock.uvicorn is not None
    async with calling(stock.url) as client:
        etag = (await client.get("/api/inventory/unit-00000")).headers["etag"]
        poll = asyncio.create_task(
            client.get("/api/inventory/unit-00000?wait=60", headers={"If-None-Match": etag})
        )
        await until(lambda: stock.hub.waiters)
        stock.uvicorn.should_exit = True
        assert (await poll).status_code == 304


async def test_a_client_that_reads_nothing_does_not_hold_the_shutdown_up(
    database_url: str, http: str, connection: Connection
) -> None:
    async with serving(database_url, http=http, send_buffer=8192, stream_conflate_ms=0) as server:
        await add_products(connection, 200)
        await server.published(connection)
        async with connected(server.port, receive_buffer=4096) as slow:
            await slow.send(get(ALL))
            await until(lambda: server.open_streams == 1)
            (subscriber,) = server.hub.streams()
            number = 0
            while not subscriber.is_full:
                number += 1
                await connection.execute("update products set sold_quantity = $1", number)
                await server.published(connection)
            assert server.uvicorn is not None
            server.uvicorn.should_exit = True
            await until(lambda: server.open_streams == 0)
            state = server.uvicorn.server_state
            await until(lambda: not state.tasks, "no response is left", 3)


# What is left


def living(*classes: type) -> list[object]:
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, classes)]


@direct
async def test_thousands_of_streams_leave_nothing_behind(
    stock: Server, connection: Connection, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """5,000, opened and closed in bursts while changes pour in, half of them by a reset."""
    writer = await connect()
    is_over = False

    async def write() -> None:
        while not is_over:
            await sell(writer, "unit-00000", 0 if is_over else 1)
            await writer.execute("update products set sold_quantity = 0")

    async def come_and_go(number: int) -> None:
        path = (ONE, ALL, f"{ALL}?productIds=unit-00000,unit-00001")[number % 3]
        async with connected(stock.port) as raw:
            await raw.send(get(path))
            if number % 5:
                await raw.read_until(b"event: snapshot")
            if number % 2:
                raw.reset()
            else:
                raw.writer.close()

    async def burst(first: int) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(first, first + 250):
                group.create_task(come_and_go(number))

    writing = asyncio.create_task(write())
    tasks = len(asyncio.all_tasks())
    for first in range(0, 5_000, 250):
        await burst(first)
    await until(lambda: stock.open_streams == 0)
    is_over = True
    await writing
    await stock.published(connection)
    assert stock.uvicorn is not None
    state = stock.uvicorn.server_state
    await until(lambda: not state.connections and not state.tasks)
    assert len(asyncio.all_tasks()) <= tasks
    assert not living(StreamConnection, BodySubscriber, HttpToolsProtocol, RequestResponseCycle)
    hub = stock.hub
    assert not hub.topics
    assert not hub.stalls
    assert not any(hub.ping_slots)
    assert stock.metric("loop_failures_total", loop="publisher") == 0
    assert [each for each in caplog.records if each.levelname in ("ERROR", "WARNING")] == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc as Linux has them")
async def test_the_stream_too_many_is_sent_away_and_the_others_are_undisturbed(
    database_url: str, connection: Connection, tmp_path: Path
) -> None:
    """With 200 files at most, one log line says what to raise."""
    await add_products(connection, 1)
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: ASYNC220  # it is watched, not waited for
            [sys.executable, "-m", "stream_server.cli", "serve", "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "DATABASE_URL": database_url},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)),
        )
    try:
        await until(lambda: process.poll() is not None or "Serving on" in log.read_text())
        url = re.search(r"Serving on (\S+)", log.read_text()).group(1)  # type: ignore[union-attr]
        port = int(url.rpartition(":")[2])
        async with calling(url) as client:
            await ready(client)
            streams: list[Raw] = []
            closers: list[Any] = []
            try:
                refused: bytes = b""
                while not refused:
                    closer = connected(port)
                    raw = await closer.__aenter__()
                    closers.append(closer)
                    await raw.send(get(ONE))
                    received = await raw.read_until(b"retry: ")
                    if b"event: snapshot" in received:
                        streams.append(raw)
                    else:
                        refused = await raw.read_to_end()
                assert refused.startswith(b"HTTP/1.1 200 ")
                assert re.search(rb"retry: [1-9]\d{3,}\n", refused)
                assert 100 < len(streams) < 200
                for _ in range(3):
                    assert (await client.get(ONE)).text.startswith("retry: ")
                assert (await client.get("/readyz")).status_code == 200
                await sell(connection, "unit-00000")
                for raw in streams:
                    await raw.read_until(b"inventory_updated")
                warnings = [each for each in log.read_text().splitlines() if "ulimit -n" in each]
                assert len(warnings) == 1
            finally:
                for closer in closers:
                    await closer.__aexit__(None, None, None)
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert "Traceback" not in log.read_text()
