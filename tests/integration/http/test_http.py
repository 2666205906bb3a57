"""HTTP/1.1 as clients speak it, and as they should not: on raw sockets."""

import asyncio
import json
import logging
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import calling, connected, get, ready
from tests.support.servers import Connection, Server, add_products, until

pytestmark = pytest.mark.ways("direct-uvloop", "direct-asyncio")

BODY = b'{"productIds":["unit-00000"]}'
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n"


def post(body: bytes = BODY, *, headers: bytes = b"", chunked: bool = False) -> bytes:
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    if chunked:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return b"POST /api/inventory/batch HTTP/1.1\r\nHost: shop\r\n%b%b\r\n\r\n%b" % (
        headers + b"Content-Type: application/json\r\n", framing, body,
    )  # fmt: skip


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def error_of(received: bytes) -> dict[str, Any]:
    """The error that the last answer tells."""
    answer: dict[str, Any] = json.loads(received.rpartition(b"\r\n\r\n")[2])
    assert answer["success"] is False
    error: dict[str, Any] = answer["error"]
    return error


@pytest.fixture
async def stock(server: Server, connection: Connection) -> Server:
    await add_products(connection, 1)
    await server.published(connection)
    return server


# Offers to upgrade


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_offer_to_upgrade_is_ignored_and_the_body_read(
    stock: Server, chunked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """In one segment, in one of its own, byte by byte, with requests behind it."""
    request = post(headers=H2C, chunked=chunked)
    head, _, _ = request.partition(b"\r\n\r\n")
    cut = len(head) + 4
    for parts in (
        [request],
        [request[:cut], request[cut:]],
        [request[: cut + 3], request[cut + 3 :]],
        [bytes((each,)) for each in request],
    ):
        async with connected(stock.port) as raw:
            for part in parts:
                await raw.send(part)
                await asyncio.sleep(0)
            await raw.read_until(b'"unknown":[]')
            await raw.send(request + request + get("/healthz"))
            received = await raw.read_until(b'"status":"ok"')
            assert statuses(received) == [200, 200, 200, 200]
            assert received.count(b'"unknown":[]') == 3
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_a_stream_is_had_with_an_offer_to_upgrade(stock: Server) -> None:
    async with connected(stock.port) as raw:
        head = get("/api/inventory/unit-00000/stream").removesuffix(b"\r\n")
        await raw.send(head + H2C + b"\r\n")
        received = await raw.read_until(b'"live":true}')
        assert statuses(received) == [200]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_posts_with_an_offer_of_http_2(stock: Server) -> None:
    command = ["curl", "-sS", "--http2", "-d", BODY.decode(), "-H",
               "Content-Type: application/json", f"{stock.url}/api/inventory/batch"]  # fmt: skip
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    assert json.loads(done.stdout)["success"] is True


JAVA = """
import java.net.URI;
import java.net.http.*;
public class Post {
    public static void main(String[] given) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int i = 0; i < given.length; i += 2) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(given[i]))
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(given[i + 1])).build();
            var answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode());
        }
    }
}
"""


@pytest.mark.ways("direct-uvloop")
@pytest.mark.skipif(shutil.which("javac") is None, reason="needs a JDK")
async def test_javas_own_client_posts(stock: Server, tmp_path: Path) -> None:
    source = tmp_path / "Post.java"
    source.write_text(JAVA)
    reservation = json.dumps(
        {"checkoutToken": "java-" + "x" * 20, "lines": [{"productId": "unit-00000", "quantity": 1}]}
    )

    batch, reserve = f"{stock.url}/api/inventory/batch", f"{stock.url}/api/reservations"
    command = [
        "java",
        str(source),
        batch,
        BODY.decode(),
        reserve,
        reservation,
        batch,
        BODY.decode(),
    ]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["200", "201", "200"]


# What is refused

REFUSED: dict[str, tuple[bytes, int]] = {
    "no Host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "two Hosts in HTTP/1.0": (b"GET /healthz HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "a blank in Host": (b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "a path in Host": (b"GET /healthz HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "a user in Host": (b"GET /healthz HTTP/1.1\r\nHost: u@b\r\n\r\n", 400),
    "a port in letters": (b"GET /healthz HTTP/1.1\r\nHost: a:http\r\n\r\n", 400),
    "a high byte in Host": (b"GET /healthz HTTP/1.1\r\nHost: \xe9\r\n\r\n", 400),
    "gzip, chunked": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501,
    ),
    "gzip": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "identity": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 501),
    "xchunked": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
    "chunked twice": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400,
    ),
    "chunked in two lines": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n", 400,
    ),
    "chunked in HTTP/1.0": (
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
    ),
    "length and chunked": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
    ),
    "chunked and length": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Length: 5\r\n\r\n0\r\n\r\n", 400,
    ),
    "two lengths": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400,
    ),
    "a list of lengths": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na", 400,
    ),
    "a length with a sign": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", 400),
    "a length past all numbers": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400,
    ),
    "a folded header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    "a bare line feed": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "a bare carriage return": (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
    "a NUL": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    "a blank before the colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "no name": (b"GET / HTTP/1.1\r\n: a\r\n\r\n", 400),
    "HTTP/2.0": (b"GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /healthz HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    "no version": (b"GET /healthz\r\n\r\n", 505),
    "the start of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "another protocol": (b"GET / FTP/1.1\r\nHost: a\r\n\r\n", 400),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "129 headers": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 129 + b"\r\n", 431),
    "a size that is no number": (post(chunked=True).replace(b"1d\r\n", b"zz\r\n"), 400),
    "a size in 0x": (post(chunked=True).replace(b"1d\r\n", b"0x1d\r\n"), 400),
    "a size past all numbers": (post(chunked=True).replace(b"1d\r\n", b"f" * 20 + b"\r\n"), 400),
    "a chunk too long": (post(chunked=True).replace(b"1d\r\n", b"1c\r\n"), 400),
}  # fmt: skip


@pytest.mark.ways("direct-uvloop")
async def test_what_is_no_http_is_refused_as_the_api_refuses(server: Server) -> None:
    """With a text, behind the answers to earlier requests, and nothing behind it is answered."""
    answers = {}
    for name, (request, _) in REFUSED.items():
        async with connected(server.port) as raw:
            await raw.send(get("/healthz") + request + get("/healthz"))
            received = await raw.read_to_end()
        answers[name] = statuses(received)
        assert b"connection: close" in received, name
        assert len(error_of(received)["message"]) > 15, name
    assert answers == {name: [200, status] for name, (_, status) in REFUSED.items()}
    for status, number in Counter(status for _, status in REFUSED.values()).items():
        assert server.metric("bad_requests_total", status=str(status)) == number


ANSWERED: dict[str, bytes] = {
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/1.9": b"GET /healthz HTTP/1.9\r\nHost: a\r\n\r\n",
    "a Host with a port": b"GET /healthz HTTP/1.1\r\nHost: shop.example:8000\r\n\r\n",
    "an IPv6 Host": b"GET /healthz HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n",
    "an empty Host": b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n",
    "empty lines before": b"\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "the whole URL": b"GET http://shop/healthz HTTP/1.1\r\nHost: shop\r\n\r\n",
    "128 headers": b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 127 + b"\r\n",
    "63 KiB of headers": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 64_000 + b"\r\n\r\n",
    "a WebSocket": b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n",
    "a body that nobody asked for": b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
    b"Content-Length: 3\r\n\r\nabc",
}


async def test_what_is_odd_but_right_is_answered_and_the_next_request_too(server: Server) -> None:
    answers = {}
    for name, request in ANSWERED.items():
        async with connected(server.port) as raw:
            await raw.send(request + get("/healthz", headers={"Connection": "close"}))
            answers[name] = statuses(await raw.read_to_end())
    assert answers == {name: [200, 200] for name in ANSWERED}


async def test_trailers_are_no_headers(stock: Server) -> None:
    request = post(chunked=True, headers=b"").removesuffix(b"\r\n") + b"Host: evil\r\n\r\n"
    async with connected(stock.port) as raw:
        await raw.send(request + get("/healthz", headers={"Connection": "close"}))
        assert statuses(await raw.read_to_end()) == [200, 200]


async def test_dots_and_escaped_slashes_in_a_path_are_an_id(
    server: Server, connection: Connection
) -> None:
    """As they come, and never a way to another path."""
    await connection.execute(
        "insert into products (id, name, base_price, max_quantity) values ('a/b', 'A', 1, 1)"
    )
    await server.published(connection)
    for path, status in (
        ("/api/inventory/a%2Fb", 200),
        ("/api/inventory/a%2fb", 200),
        ("/api/inventory/a/b", 404),
        ("/api/inventory/a%252Fb", 404),
        ("/api/inventory/.", 404),
        ("/api/inventory/..", 404),
        ("/api/inventory/../inventory/a%2Fb", 404),
        ("/api/inventory/%2e%2e", 404),
        ("/api/inventory/%2E%2E%2F..%2Fhealthz", 404),
        ("/api/inventory/../../healthz", 404),
        ("/static/..%2F..%2Fsettings.py", 404),
        ("/client/../../settings.py", 404),
    ):
        for request in (path, f"{path}/stream") if path.startswith("/api") else (path,):
            async with connected(server.port) as raw:
                await raw.send(get(request, headers={"Connection": "close"}))
                received = await raw.read_until(b"\r\n\r\n")
                assert (request, statuses(received)) == (request, [status])


# What is too long


@pytest.mark.parametrize(
    ("start", "part", "status"),
    [
        (b"GET /", b"a" * 2**20, 414),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ", b"a" * 2**20, 431),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n", b"a: b\r\n" * 2**18, 431),
        (post(chunked=True).replace(b"1d\r\n", b"1d;"), b"a" * 2**20, 400),
        (post(chunked=True).removesuffix(b"\r\n") + b"X: ", b"a" * 2**20, 400),
    ],
    ids=["target", "header", "headers", "chunk extension", "trailer"],
)
async def test_what_never_ends_is_refused_early(
    stock: Server, start: bytes, part: bytes, status: int
) -> None:
    """A client that goes on sending all the same can still read why."""
    if b"1d;" in start:
        start = start[: start.index(b"1d;") + 3]
    async with connected(stock.port) as raw:
        await raw.send(start)
        for _ in range(8):
            await raw.send(part)
        received = await raw.read_to_end()
    assert statuses(received) == [status]
    assert "too long" in error_of(received)["message"] or "128" in error_of(received)["message"]


# What does not come, and who does not read


@pytest.mark.settings(http_head_seconds=0.1, http_body_seconds=0.1)
@pytest.mark.parametrize(
    ("sent", "expected", "reason"),
    [
        (b"", [], "head"),
        (b"\r\n", [], "head"),
        (b"GET /he", [408], "head"),
        (get("/healthz") + b"GET /", [200, 408], "head"),
        (post()[:-5], [408], "body"),
        (post(chunked=True)[:-5], [408], "body"),
        (post(headers=H2C)[:-5], [408], "body"),
    ],
)
async def test_a_request_that_does_not_come_ends_its_connection(
    server: Server, sent: bytes, expected: list[int], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(server.port) as raw:
        await raw.send(sent)
        assert statuses(await raw.read_to_end()) == expected
    assert server.metric("ended_connections_total", reason=reason) == 1
    await until(lambda: f"HTTP_{reason.upper()}_SECONDS" in caplog.text, "the log says it")
    assert "Traceback" not in caplog.text
    await until(lambda: server.metric("open_connections") == 0, "it is closed")


@pytest.mark.settings(http_keep_alive_seconds=0.1)
async def test_an_idle_connection_is_closed(server: Server) -> None:
    async with connected(server.port) as raw:
        await raw.send(get("/healthz"))
        assert statuses(await raw.read_to_end()) == [200]
    assert server.metric("ended_connections_total", reason="idle") == 1


@pytest.mark.settings(http_answer_seconds=0.2)
async def test_a_client_that_does_not_read_its_answer_is_cut_off(
    server: Server, connection: Connection
) -> None:
    await add_products(connection, 3000)
    await server.published(connection)
    async with connected(server.port, receive_buffer=4096) as raw:
        for _ in range(100):  # more than the kernel keeps for a connection
            await raw.send(get("/api/inventory?limit=500"))
        await until(lambda: server.metric("ended_connections_total", reason="answer") == 1)
        await until(lambda: server.metric("open_connections") == 0, "it is closed")


async def test_a_client_that_hangs_up_in_its_body_is_no_error(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (b"/api/inventory/batch", b"/api/reservations"):
        async with connected(server.port) as raw:
            await raw.send(post()[:-5].replace(b"/api/inventory/batch", path))
            await until(lambda: server.uvicorn.server_state.tasks)  # type: ignore[union-attr]
            raw.reset()
        await until(lambda: not server.uvicorn.server_state.tasks)  # type: ignore[union-attr]
    assert not [each for each in caplog.records if each.levelno > logging.DEBUG]


async def test_a_client_that_has_closed_its_side_gets_its_answer(stock: Server) -> None:
    for request in (post(), get("/api/inventory/unit-00000"), get("/healthz") + post()):
        async with connected(stock.port) as raw:
            await raw.send(request)
            raw.writer.write_eof()
            received = await raw.read_to_end()
            assert set(statuses(received)) == {200}
            assert len(statuses(received)) == request.count(b"HTTP/1.1")


async def test_a_connection_says_once_whether_it_stays(stock: Server) -> None:
    async with connected(stock.port) as raw:
        await raw.send(get("/api/inventory/unit-00000/stream", headers={"Connection": "close"}))
        head = (await raw.read_until(b"\r\n\r\n")).partition(b"\r\n\r\n")[0].lower()
        assert [each for each in head.splitlines() if each.startswith(b"connection:")] == [
            b"connection: close"
        ]


# Sockets


@pytest.mark.settings(forwarded_allow_ips="192.0.2.1", connections_per_address=3)
async def test_one_address_has_so_many_connections_at_once(
    stock: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether they ask or are silent; one that has become a stream is counted as such."""
    async with AsyncExitStack() as stack:
        raws = [await stack.enter_async_context(connected(stock.port)) for _ in range(3)]
        await until(lambda: stock.metric("open_connections") == 3)
        async with connected(stock.port) as late:
            with suppress(ConnectionResetError):
                assert await late.read_to_end() == b""
        assert stock.metric("ended_connections_total", reason="crowd") == 1
        await until(lambda: "CONNECTIONS_PER_ADDRESS" in caplog.text, "the log says it")
        await raws[0].send(get("/api/inventory/unit-00000/stream"))
        await raws[0].read_until(b"event: snapshot")
        raws[1].reset()
        await until(lambda: stock.metric("open_connections") == 2)  # one of them the stream
        for _ in range(2):
            raw = await stack.enter_async_context(connected(stock.port))
            await raw.send(get("/healthz"))
            await raw.read_until(b"ok")
    await until(lambda: stock.metric("open_connections") == 0)
    for _ in range(5):  # all have left
        async with connected(stock.port) as raw:
            await raw.send(get("/healthz", headers={"Connection": "close"}))
            assert statuses(await raw.read_to_end()) == [200]


@pytest.mark.settings(connections_per_address=1)
async def test_a_trusted_proxy_has_any_number_of_connections(stock: Server) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(5):
            raw = await stack.enter_async_context(connected(stock.port))
            await raw.send(get("/healthz"))
            await raw.read_until(b"ok")


async def test_a_lost_client_is_noticed_by_the_system(server: Server) -> None:
    """Accepted connections have inherited it; so nobody counts a phone that is gone."""
    async with connected(server.port) as raw:
        await raw.send(get("/healthz"))
        await raw.read_until(b"ok")
        protocol = next(iter(server.uvicorn.server_state.connections))  # type: ignore[union-attr]
        accepted = protocol.transport.get_extra_info("socket")
        with socket.fromfd(accepted.fileno(), socket.AF_INET, socket.SOCK_STREAM) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            user_timeout = getattr(socket, "TCP_USER_TIMEOUT", None)
            if user_timeout is not None:
                assert sock.getsockopt(socket.IPPROTO_TCP, user_timeout) == 60_000


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
async def test_silent_clients_make_room_for_those_who_ask(
    database_url: str, tmp_path: Path
) -> None:
    """With 256 files and 400 silent connections, everybody else is served, and the log says it."""
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: ASYNC220  # it is watched, not waited for
            [sys.executable, "-m", "stream_server.cli", "serve", "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "DATABASE_URL": database_url, "HTTP_KEEP_ALIVE_SECONDS": "600"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)),
        )
    try:
        await until(lambda: process.poll() is not None or "Serving on" in log.read_text())
        url = re.search(r"Serving on (\S+)", log.read_text()).group(1)  # type: ignore[union-attr]
        port = int(url.rpartition(":")[2])
        async with calling(url) as client, AsyncExitStack() as silent:
            await ready(client)
            for number in range(400):
                raw = await silent.enter_async_context(connected(port))
                if number % 3:
                    await raw.send((b"GET /", post()[:-1])[number % 2])
                if number % 50 == 0:
                    # On a new connection: one that waits is ended while a request is on its way.
                    answer = await client.get("/readyz", headers={"Connection": "close"})
                    assert answer.status_code == 200
            await client.aclose()
        async with calling(url) as client:
            metrics = (await client.get("/metrics")).text
            ended = re.search(r'ended_connections_total{reason="room"} (\d+)', metrics)
            assert ended is not None
            assert int(ended[1]) > 150
        await until(lambda: "made room for new ones" in log.read_text(), "the log says it")
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert "Traceback" not in log.read_text()
    assert log.read_text().count("WARNING") < 5
