"""The real application under a real server, in the test's own event loop.

Tests reach into it (`server.hub`, `server.source`) to wait for what must have happened, never for
some time to pass. What a client sees, it sees through a socket.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg
import hypercorn.asyncio
import hypercorn.config
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from stream_server.app import create_app
from stream_server.database.queries import query
from stream_server.server import Server as UvicornServer
from stream_server.settings import Settings
from stream_server.streaming.cursor import Snapshot
from stream_server.streaming.hub import Hub
from stream_server.streaming.products import Product, Variant
from stream_server.streaming.rows import product_of, variant_of
from stream_server.streaming.source import Source

Connection: TypeAlias = "asyncpg.Connection[Any]"

DIRECT = "stream_server.streaming.connection:StreamProtocol"
PORTABLE = "httptools"
PATIENCE = 15.0  # seconds that a test waits for what should take milliseconds


async def until(condition: Callable[[], object], what: str = "", within: float = PATIENCE) -> None:
    """Returns once the condition holds; fails if it does not come true."""
    try:
        async with asyncio.timeout(within):
            while not condition():  # noqa: ASYNC110  # what changes it has no event to wait for
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"not within {within} s: {what or condition}") from None


class PromptServer(UvicornServer):
    """The server as it is, but it looks every few milliseconds whether it shall end."""

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # noqa: ASYNC110  # uvicorn sets a flag, no event
            await asyncio.sleep(0.005)


@dataclass
class Server:
    """An application that is being served."""

    app: Starlette
    url: str
    uvicorn: UvicornServer | None = None

    @property
    def hub(self) -> Hub:
        hub: Hub = self.app.state.hub
        return hub

    @property
    def source(self) -> Source:
        source: Source = self.app.state.source
        return source

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def open_streams(self) -> int:
        return self.hub.open_streams.total()

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value as `/metrics` would say it; 0 where it does not occur."""
        value = self.app.state.metrics.registry.get_sample_value(f"stream_server_{name}", labels)
        return 0.0 if value is None else value

    def state(self) -> str:
        """The source's state."""
        states = ("lost", "awake", "drowsy", "asleep")
        return next(each for each in states if self.metric("source_state", state=each))

    async def live(self) -> None:
        await until(lambda: self.hub.is_live, "the source is live")

    async def ready(self) -> None:
        """As `/readyz` says it: the source is live, and there are connections for all else."""
        await self.live()
        await until(lambda: self.app.state.pool.is_connected, "the pool is connected")

    async def published(self, connection: Connection) -> None:
        """Returns once all that is committed now has been written to every stream."""
        await caught_up(self.hub, connection)
        await until(
            lambda: not self.hub.pending and not self.hub.pending.is_publishing, "it is published"
        )


async def caught_up(hub: Hub, connection: Connection, within: float = PATIENCE) -> None:
    """Returns once the hub has seen all that is committed now."""
    logged = [
        int(row["xid"])
        for row in await connection.fetch(
            "select distinct xid::text from inventory_log"
            # Others are numbers of another cluster, from a dump.
            " where pg_visible_in_snapshot(xid, pg_current_snapshot())"
        )
    ]
    await until(lambda: all(map(hub.seen.sees, logged)), "the hub has seen it all", within)


@asynccontextmanager
async def serving(
    database_url: str,
    *,
    http: str = DIRECT,
    tls: ssl.SSLContext | None = None,
    send_buffer: int | None = None,
    **overrides: Any,
) -> AsyncIterator[Server]:
    """The application on this database, ready, under uvicorn. `overrides` are settings."""
    app = app_on(database_url, **overrides)
    async with started(app, http=http, tls=tls, send_buffer=send_buffer) as server:
        await server.ready()
        yield server


@asynccontextmanager
async def started(
    app: Starlette,
    *,
    http: str = DIRECT,
    tls: ssl.SSLContext | None = None,
    send_buffer: int | None = None,
) -> AsyncIterator[Server]:
    """An application under uvicorn, on a free port. The kernel keeps `send_buffer` bytes for a
    connection (None: as many as it likes)."""
    config = uvicorn.Config(
        app, http=http, ws="none", lifespan="on", log_config=None, access_log=False,
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    config.load()
    config.ssl = tls
    server = PromptServer(config, app)
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    if send_buffer is not None:  # connections inherit it
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    port = listening.getsockname()[1]
    task = asyncio.create_task(server._serve([listening]))  # serve() would take the signals
    scheme = "https" if tls else "http"
    try:
        await until(lambda: server.started or task.done(), "uvicorn has started")
        yield Server(app, f"{scheme}://127.0.0.1:{port}", server)
    finally:
        server.should_exit = True
        async with asyncio.timeout(PATIENCE):
            await task


@asynccontextmanager
async def under_hypercorn(app: Starlette) -> AsyncIterator[Server]:
    """An application that runs already, under hypercorn as well: the same hub, other sockets."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.include_date_header = config.include_server_header = False
    stop = asyncio.Event()
    task = asyncio.create_task(
        hypercorn.asyncio.serve(without_lifespan(app), config, shutdown_trigger=stop.wait)
    )
    try:
        yield Server(app, f"http://127.0.0.1:{port}")
    finally:
        stop.set()
        async with asyncio.timeout(PATIENCE):
            await task


def without_lifespan(app: ASGIApp) -> Any:
    """The application for a second server, which must not start it again."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await app(scope, receive, send)
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})

    return wrapped


def app_on(database_url: str, **overrides: Any) -> Starlette:
    """The application, with settings that let tests end quickly, and without pings but for tests
    that want some."""
    given = {
        "database_url": database_url,
        "stream_conflate_ms": 20,
        "stream_drain_seconds": 0,
        **overrides,
    }
    settings = Settings.load(given)
    if "stream_ping_seconds" not in overrides:  # longer than anybody may set it
        settings = settings.model_copy(update={"stream_ping_seconds": 3600.0})
    return create_app(settings)


async def products_in(connection: Connection) -> dict[str, Product]:
    """Every product as the database has it."""
    variants: dict[str, dict[str, Variant]] = {}
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        seen = Snapshot.parse(await connection.fetchval("select pg_current_snapshot()::text"))
        for row in await connection.fetch(query("source/read_variants")):
            variants.setdefault(row["product_id"], {})[row["id"]] = variant_of(row)
        return {
            row["id"]: product_of(row, variants.get(row["id"]), seen)
            for row in await connection.fetch(query("source/read_products"))
        }


async def assert_complete(hub: Hub, connection: Connection) -> None:
    """The hub's state is the database's: every product, variant, version and transaction."""
    known = {product_id: entry.product for product_id, entry in hub.entries.items()}
    assert known == await products_in(connection)


async def add_products(connection: Connection, count: int, prefix: str = "unit-") -> list[str]:
    """Products of 1000 units each, in one transaction."""
    ids = [f"{prefix}{number:05}" for number in range(count)]
    await connection.execute(
        "insert into products (id, name, base_price, max_quantity)"
        " select id, 'Product ' || id, 4900, 1000 from unnest($1::text[]) id",
        ids,
    )
    return ids


async def sell(connection: Connection, product_id: str, units: int = 1) -> None:
    """As somebody in psql would."""
    await connection.execute(
        "update products set sold_quantity = sold_quantity + $2 where id = $1", product_id, units
    )
