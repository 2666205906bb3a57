"""The web application: settings, lifespan, routes, error map. The only place that wires things."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from stream_server.background import running
from stream_server.database import migrations
from stream_server.database.pool import Pool
from stream_server.database.poolers import session_url
from stream_server.database.shares import Work
from stream_server.errors import DatabaseError
from stream_server.inventory.counts import measure_lag
from stream_server.inventory.reserver import Reserver
from stream_server.inventory.shelf import Shelf
from stream_server.metrics import Metrics
from stream_server.settings import Settings
from stream_server.signals import heard
from stream_server.streaming.hub import Hub
from stream_server.streaming.publisher import Publisher
from stream_server.streaming.source import Source
from stream_server.web.api.adjustments import admin_routes
from stream_server.web.api.alerts import alert_routes
from stream_server.web.api.counts import sync_routes
from stream_server.web.api.health import ops_routes
from stream_server.web.api.imports import ImportTasks, import_routes
from stream_server.web.api.inventory import inventory_routes
from stream_server.web.api.orders import order_routes
from stream_server.web.api.products import product_routes
from stream_server.web.api.reservations import reservation_routes
from stream_server.web.api.streams import stream_routes
from stream_server.web.api.stripe import stripe_routes
from stream_server.web.auth import Tokens
from stream_server.web.browser.files import ClientFiles, client_routes
from stream_server.web.errors import EXCEPTION_HANDLERS
from stream_server.web.limits import Limits
from stream_server.web.links import PrefixRemover
from stream_server.web.middleware import Admission, ConnectionCloser, RequestTimer, Shortcut
from stream_server.web.pages.demo_payments import demo_payment_routes
from stream_server.web.pages.rendering import Pages, static_routes
from stream_server.web.pages.shop import page_routes
from stream_server.web.pages.unknown import UnknownPages
from stream_server.web.product_json import PublicEncoder
from stream_server.web.stream_limits import StreamLimit, UnknownIds

__all__ = [
    "CLOSING_SECONDS",
    "LAG_SECONDS",
    "NOT_STARTED",
    "create_app",
    "started",
]

logger = logging.getLogger(__name__)

NOT_STARTED: Final = (
    "the lifespan of this application was not run; one that is mounted in another needs "
    "stream_server.app.started() in the lifespan of that one"
)
LAG_SECONDS: Final = 15.0  # between two measurements of how late external systems are
CLOSING_SECONDS: Final = 5.0  # for connections to Postgres that are still in use


def create_app(settings: Settings, *, is_demo: bool = False) -> Starlette:
    """The ASGI application on one database. It serves as soon as it runs, and is ready
    (`/readyz`) once it follows the database, however long that takes.

    A demo has a page that pays for nothing, so no setting can ask for one.
    """
    metrics = Metrics(works=is_demo)
    hub = Hub(
        PublicEncoder(),
        conflate=settings.stream_conflate_ms / 1000,
        retry_ms=settings.stream_retry_ms,
        on_failure=metrics.failed.labels("stream").inc,
    )
    publisher = Publisher(
        hub,
        metrics,
        ping=settings.stream_ping_seconds,
        stall=settings.stream_stall_seconds,
        max_life=settings.stream_max_seconds,
    )
    url = session_url(settings)
    source = Source(
        url,
        hub,
        metrics,
        awake_read=settings.stream_awake_read_ms / 1000,
        sleep_after=settings.stream_sleep_after_ms / 1000,
        safety_read=settings.stream_safety_read_seconds,
    )

    def waits(reason: str) -> None:
        app.state.waits_because = reason

    async def follow() -> None:
        await migrations.until_current(url, tell=waits)
        waits("")
        await source.run()

    pool = Pool.of(settings, shared=True)

    metrics.pool_in_use.set_function(lambda: pool.in_use)
    metrics.pool_waiting.set_function(lambda: pool.waiting)

    imports = ImportTasks()

    async def connect() -> None:
        await pool.connect(patience=None)
        await asyncio.Event().wait()

    async def watch_lag() -> None:
        while True:
            if hub.is_live:
                with suppress(DatabaseError):  # whoever needs the database will say it
                    await measure_lag(pool, metrics)
            await asyncio.sleep(LAG_SECONDS)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        app.state.has_started = True
        if settings.jwt_public_key and not settings.jwt_audience:
            logger.warning(
                "JWT_PUBLIC_KEY is set and JWT_AUDIENCE is not: whatever application its owner "
                "issues a token for, the token is good here"
            )
        app.state.is_leaving = app.state.is_draining = False  # it may be started again
        app.state.waits_because = ""
        loops = {
            "source": follow,
            "publisher": publisher.publish,
            "ping": publisher.ping,
            "pool": connect,
            "sync lag": watch_lag,
        }
        try:
            async with running(loops, metrics):
                # Most servers wait for streams, which never end by themselves, and say no word.
                with heard(begin_drain) if app.state.hears_signals else nullcontext():
                    yield
                if not app.state.is_draining:  # a server that knows nothing of it
                    await drain()
        finally:
            app.state.has_started = False
            with suppress(TimeoutError):
                async with asyncio.timeout(0 if app.state.is_hurried else CLOSING_SECONDS):
                    await imports.stop()
                    await pool.disconnect()

    async def drain() -> None:
        app.state.is_draining = True
        await publisher.end_streams(settings.stream_drain_seconds)

    draining: set[asyncio.Task[None]] = set()

    def begin_drain() -> None:
        if not app.state.is_draining:
            draining.add(asyncio.create_task(drain()))

    limits = Limits(settings, metrics)
    pages = [*page_routes(), *(demo_payment_routes() if is_demo else ())]
    app = Starlette(
        routes=[
            *reservation_routes(),
            *order_routes(),
            *stripe_routes(),
            *product_routes(),
            *admin_routes(),
            *import_routes(),
            *sync_routes(),
            *alert_routes(),
            *client_routes(),
            *pages,
            *static_routes(),
            *ops_routes(),
        ],
        middleware=_middleware(settings, limits, metrics),
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.router.default = UnknownPages(pages, app.router.default)
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.client = ClientFiles.from_package()
    app.state.pages = Pages(app.state.client, settings)
    app.state.hub = hub
    app.state.source = source
    app.state.pool = pool
    app.state.reserver = Reserver(
        pool.doing(Work.CHANGING),
        timedelta(minutes=settings.reservation_minutes),
        turns=max(1, settings.database_pool_size * 3 // 10),
        patience=settings.database_wait_seconds,
    )
    app.state.imports = imports
    app.state.tokens = Tokens(
        settings.secret_key.get_secret_value(),
        settings.jwt_public_key,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
    )
    app.state.limits = limits
    app.state.shelf = Shelf()
    app.state.stream_limit = StreamLimit()
    app.state.unknown_ids = UnknownIds()
    app.state.has_started = False
    app.state.has_complained = False  # of it, in the log
    app.state.waits_because = NOT_STARTED
    app.state.is_leaving = False
    app.state.is_draining = False
    app.state.is_hurried = False  # it waits for nobody
    app.state.hears_signals = True  # but not beside a server that drains by itself
    app.state.drain = drain
    return app


@asynccontextmanager
async def started(app: Starlette) -> AsyncIterator[None]:
    """Run what the application needs (its loops and its connections) within the block.

    Servers do this for the application that they serve (ASGI's lifespan), but nobody does it for
    one that is mounted in another: do it in the lifespan of the other.
    """
    async with app.router.lifespan_context(app):
        yield


def _middleware(settings: Settings, limits: Limits, metrics: Metrics) -> list[Middleware]:
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "If-None-Match",
            "Last-Event-ID",
            "Cache-Control",
        ],
        expose_headers=["ETag", "Retry-After"],
        max_age=86_400,
    )
    shortcut = Middleware(Shortcut, resources=[*stream_routes(), *inventory_routes()])
    unprefixed = Middleware(PrefixRemover, prefix=settings.public_path)
    return [
        Middleware(ConnectionCloser),
        *([unprefixed] if settings.public_path else ()),
        *([cors] if settings.allowed_origins else ()),
        Middleware(Admission, limits=limits),
        shortcut,
        Middleware(RequestTimer, metrics=metrics),  # behind what must cost least
    ]
