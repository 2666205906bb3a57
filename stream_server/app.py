"""The web application: its routes, middleware and state. Only this module connects the parts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from stream_server.inventory.shelf import Shelf
from stream_server.metrics import Metrics
from stream_server.service import Service
from stream_server.settings import Settings
from stream_server.web.api.adjustments import admin_routes
from stream_server.web.api.alerts import alert_routes
from stream_server.web.api.counts import sync_routes
from stream_server.web.api.health import ops_routes
from stream_server.web.api.imports import import_routes
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
from stream_server.web.stream_limits import StreamLimit, UnknownIds

__all__ = ["create_app", "started"]


def create_app(settings: Settings, *, is_demo: bool = False) -> Starlette:
    """Returns the ASGI application on the database of `settings`.

    It serves as soon as it runs. It is ready (`/readyz`) when it follows the database, however long
    that takes. `is_demo` adds a page that completes orders without money; no setting can add it.
    """
    metrics = Metrics(works=is_demo)
    service = Service(settings, metrics)
    limits = Limits(settings, metrics)
    client = ClientFiles.from_package()
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
        lifespan=service.lifespan,
    )
    app.router.default = UnknownPages(pages, app.router.default)
    service.attach(app.state)
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.limits = limits
    app.state.client = client
    app.state.pages = Pages(client, settings)
    app.state.shelf = Shelf()
    app.state.stream_limit = StreamLimit()
    app.state.unknown_ids = UnknownIds()
    app.state.tokens = Tokens(
        settings.secret_key.get_secret_value(),
        settings.jwt_public_key,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
    )
    return app


@asynccontextmanager
async def started(app: Starlette) -> AsyncIterator[None]:
    """Runs the application's loops and connections within the block.

    A server does this for the application that it serves (ASGI's lifespan), but not for an
    application that is mounted in another. Use this in the lifespan of the outer application.
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
        Middleware(RequestTimer, metrics=metrics),  # the shortcut before it must cost least
    ]
