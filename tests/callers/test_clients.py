"""Programs that others wrote open a stream, are told of a change, and resume after a restart with
exactly what changed meanwhile."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import asyncpg
import pytest

from tests.support.callers.restarts import in_chromium
from tests.support.callers.told import HERE, Told, program
from tests.support.npm import installed
from tests.support.ports import reserved_port
from tests.support.proxies import program as found
from tests.support.servers import until
from tests.support.site import Site, Stock

Connection: TypeAlias = "asyncpg.Connection[Any]"
Opened: TypeAlias = AbstractAsyncContextManager[Told]

PATIENCE = 30.0  # of Java, which compiles first


def java() -> str:
    """What runs a Java source file: it takes a JDK, whose compiler is `javac`."""
    found("javac")
    return found("java")


def java_reader(url: str) -> Opened:
    return program([java(), str(HERE / "Reader.java"), url], 1, os.environ)


def reader(name: str, needs: str = "") -> Callable[[str], Opened]:
    def opened(url: str) -> Opened:
        if needs:
            found(needs)
        return program([sys.executable, str(HERE / "readers.py"), name, url], 1, os.environ)

    return opened


def node(name: str) -> Callable[[str], Opened]:
    def opened(url: str) -> Opened:
        installed(name)
        return program([found("node"), str(HERE / "eventsources.mjs"), name, url], 1, os.environ)

    return opened


def chromium(url: str) -> Opened:
    return in_chromium([url])


CLIENTS: dict[str, Callable[[str], Opened]] = {
    "java": java_reader,
    "eventsource": node("eventsource"),
    "undici": node("undici"),
    "chromium": chromium,
    "httpx-sse": reader("httpx-sse"),
    "aiohttp-sse-client2": reader("aiohttp-sse-client2"),
    "curl": reader("curl", "curl"),
    "curl-http2": reader("curl-http2", "curl"),
}


@pytest.fixture
async def site(database_url: str) -> AsyncIterator[Site]:
    with reserved_port() as port:
        site = Site(database_url, port, allowed_origins="*", stream_retry_ms=200)
        await site.start()
        yield site
        await site.stop()


@pytest.mark.parametrize("client", CLIENTS)
async def test_it_resumes_with_exactly_what_changed(
    client: str, site: Site, connection: Connection
) -> None:
    stock = Stock(connection)
    await stock.add("p1", "p2", "p3", most=1000)
    async with CLIENTS[client](f"{site.url}/api/inventory/stream?productIds=p1,p2") as told:

        async def shows(product_id: str, quantity: int) -> None:
            await until(
                lambda: told.stock[0].get(product_id) == quantity,
                f"{client} shows {quantity} of {product_id}: {dict(told.stock)}",
                PATIENCE,
            )

        await shows("p2", 1000)
        await stock.set("p1", 7)
        await shows("p1", 7)
        opening = len(told.snapshots[0])

        await site.stop()
        await stock.set("p1", 8)
        await stock.set("p3", 8)
        await site.start()
        await shows("p1", 8)
        assert told.snapshots[0][opening:] == [["p1"]]
        assert not told.resets[0]
        assert not told.closed

        await stock.set("p2", 9)
        await shows("p2", 9)


BODY = json.dumps({"productIds": ["p1", "p2"]})
POSTS: dict[str, Callable[[str], list[str]]] = {
    "java": lambda url: [java(), str(HERE / "Post.java"), url, BODY],
    "curl-http2": lambda url: [
        found("curl"), "--silent", "--http2", "--header", "Content-Type: application/json",
        "--data", BODY, "--write-out", "\\n", url, url,
    ],
}  # fmt: skip


@pytest.mark.parametrize("client", POSTS)
async def test_a_body_arrives_with_an_offer_of_another_protocol(
    client: str, site: Site, connection: Connection
) -> None:
    """They offer h2c with the request, which may be ignored (RFC 9110, section 7.8)."""
    await Stock(connection).add("p1", "p2", most=1000)
    await until(lambda: site.app and "p2" in site.app.state.hub.entries, "p2 is there")
    command = POSTS[client](f"{site.url}/api/inventory/batch")
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    answers = [json.loads(line)["data"] for line in output.splitlines() if line]
    assert [[each["productId"] for each in data] for data in answers] == [["p1", "p2"]] * 2
