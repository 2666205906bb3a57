"""Through each proxy, as examples/proxies sets it up, all arrives as without one."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest

from tests.support.clients import NO_TLS, PATIENCE, reading
from tests.support.ports import reserved_port
from tests.support.proxies import NAMES, Proxy, proxy
from tests.support.site import Site, Stock

Connection: TypeAlias = "asyncpg.Connection[Any]"
MANY = [f"Chair-{n}" for n in range(40)]


class Backends:
    """Two ports behind a proxy, on which the test serves or does not."""

    def __init__(self, through: Proxy, ports: tuple[int, int]) -> None:
        self.proxy = through
        self.ports = ports
        self.tls = (
            ssl.create_default_context(cafile=through.authority) if through.has_tls else NO_TLS
        )

    @property
    def url(self) -> str:
        return self.proxy.url

    @asynccontextmanager
    async def calling(self, address: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.AsyncHTTPTransport(verify=self.tls, local_address=address)
        async with httpx.AsyncClient(
            base_url=self.url, transport=transport, timeout=PATIENCE, trust_env=False
        ) as client:
            yield client

    async def answers(self, status: int, path: str = "/api/inventory/Chair-0") -> httpx.Response:
        """Waits until the proxy answers so: some ask only once a second who is there."""
        async with asyncio.timeout(PATIENCE), self.calling() as client:
            while (  # noqa: ASYNC110  # nothing else tells when
                answer := await client.get(path)
            ).status_code != status:
                await asyncio.sleep(0.02)
            return answer


@pytest.fixture(scope="module", params=NAMES)
def backends(request: pytest.FixtureRequest) -> Iterator[Backends]:
    with (
        reserved_port() as first,
        reserved_port() as second,
        proxy(request.param, (first, second)) as through,
    ):
        yield Backends(through, (first, second))


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {}


@pytest.fixture
async def stock(connection: Connection) -> Stock:
    stock = Stock(connection)
    await stock.add(*MANY, "a/b")
    return stock


@pytest.fixture
async def site(
    backends: Backends, stock: Stock, database_url: str, overrides: dict[str, Any]
) -> AsyncIterator[Site]:
    """The application on the first of the two ports; the other one refuses connections."""
    site = Site(database_url, backends.ports[0], **{"stream_ping_seconds": 0.5, **overrides})
    await site.start()
    await backends.answers(200)
    yield site
    await site.stop()


@pytest.mark.parametrize("path", ["Chair-1/stream", "stream?productIds=Chair-1,Chair-2", "stream"])
async def test_a_stream_opens_shows_a_change_resumes_and_ends_with_its_client(
    backends: Backends, site: Site, stock: Stock, path: str
) -> None:
    url = f"{backends.url}/api/inventory/{path}"
    async with reading(url, verify=backends.tls) as stream:
        await stream.opened()
        await stock.set("Chair-1", 7)
        await stream.until(
            "inventory_updated", lambda data: data["productId"] == "Chair-1" and data["stock"] == 7
        )
    await site.streams(0, within=PATIENCE)
    await stock.set("Chair-1", 8)
    await site.knows("Chair-1", 8)
    async with reading(url, verify=backends.tls, last_id=stream.last_id) as again:
        data = await again.opened()
        assert [each["productId"] for each in data["products"]] == ["Chair-1"]
        assert not again.named("reset")


async def test_an_unchanged_answer_is_a_304_compressed_or_not_and_a_poll_waits(
    backends: Backends, site: Site
) -> None:
    path = f"/api/inventory?productIds={','.join(MANY)}"
    async with backends.calling() as client:
        for coding in ("gzip", "identity"):
            headers = {"Accept-Encoding": coding}
            answer = await client.get(path, headers=headers)
            assert answer.status_code == 200
            if coding == "gzip" and backends.proxy.name != "varnish":
                assert answer.headers["content-encoding"] == "gzip"
            headers["If-None-Match"] = answer.headers["etag"]
            assert (await client.get(path, headers=headers)).status_code == 304

        answer = await client.get("/api/inventory/Chair-1")
        headers = {"If-None-Match": answer.headers["etag"]}
        began = time.monotonic()
        answer = await client.get("/api/inventory/Chair-1?wait=1", headers=headers)
        assert answer.status_code == 304
        assert time.monotonic() - began >= 0.9  # and not at once


async def test_bodies_and_ids_arrive_as_they_are(backends: Backends, site: Site) -> None:
    async with backends.calling() as client:
        answer = await client.post("/api/inventory/batch", json={"productIds": ["a/b", "Chair-3"]})
        assert answer.status_code == 200, answer.text
        assert [each["productId"] for each in answer.json()["data"]] == ["a/b", "Chair-3"]
        answer = await client.get("/api/inventory/a%2Fb")
        assert answer.json()["data"]["productId"] == "a/b"
    async with reading(f"{backends.url}/api/inventory/a%2Fb/stream", verify=backends.tls) as stream:
        assert [each["productId"] for each in (await stream.opened())["products"]] == ["a/b"]


async def test_what_is_for_the_operator_is_not_shown(backends: Backends, site: Site) -> None:
    async with backends.calling() as client:
        for path in ("/metrics", "/readyz", "/metrics?x=1"):
            assert (await client.get(path)).status_code == 404


class TestLimits:
    @pytest.fixture
    def overrides(self) -> dict[str, Any]:
        return {"reservation_rate": "1/minute"}

    async def test_each_client_has_limits_of_its_own(self, backends: Backends, site: Site) -> None:
        async def reserves(address: str) -> int:
            lines = [{"productId": "Chair-4", "quantity": 1}]
            body = {"checkoutToken": f"checkout of {address}", "lines": lines}
            async with backends.calling(address) as client:
                return (await client.post("/api/reservations", json=body)).status_code

        assert await reserves("127.0.0.2") == 201
        assert await reserves("127.0.0.2") == 429
        assert await reserves("127.0.0.3") == 201


async def test_while_all_servers_are_away_nobody_is_told_anything_final(
    backends: Backends, site: Site
) -> None:
    await site.stop()
    answer = await backends.answers(503)
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["error"]["code"] == "unavailable"
    assert answer.headers["retry-after"]
    assert answer.headers["access-control-allow-origin"] == "*"

    async with backends.calling() as client:
        for path in ("Chair-1/stream", "stream", "a%2Fb/stream", "stream?productIds=Chair-1"):
            try:
                answer = await client.get(f"/api/inventory/{path}")
            except httpx.RemoteProtocolError:  # broken, from which an EventSource comes back, too
                assert backends.proxy.name == "varnish"
                continue
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.text.endswith("retry: 2000\n\n")
            assert answer.headers["access-control-allow-origin"] == "*"

    await site.start()
    await backends.answers(200)
    url = f"{backends.url}/api/inventory/stream"
    async with reading(url, verify=backends.tls) as stream:
        await stream.opened()


async def test_while_one_server_restarts_the_other_one_answers(
    backends: Backends, site: Site, database_url: str
) -> None:
    other = Site(database_url, backends.ports[1])
    await other.start()
    try:
        await backends.answers(200)
        await site.stop()
        await backends.answers(200)  # some note only after a second who is there and who is not
        async with backends.calling() as client:
            for _ in range(20):
                assert (await client.get("/api/inventory/Chair-0")).status_code == 200
        for _ in range(4):
            url = f"{backends.url}/api/inventory/Chair-0/stream"
            async with reading(url, verify=backends.tls) as stream:
                await stream.opened()
    finally:
        await other.stop()
