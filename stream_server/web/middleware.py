"""The middleware between the server and the routes."""

import time
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream_server.metrics import Metrics
from stream_server.streaming.response import RetryLater
from stream_server.web.errors import explain
from stream_server.web.limits import STREAM_RETRY_MS, Limits
from stream_server.web.routing import METHODS, ROUTE, Resource, segments_of

__all__ = ["Admission", "ConnectionCloser", "RequestTimer", "Shortcut"]


class RequestTimer:
    """Middleware that counts requests and measures the time of their answers, by route, method and
    status. Unknown routes and methods count as `other`, so clients cannot add series."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._requests = metrics.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # if nothing answers

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = time.perf_counter()
        try:
            await self._app(scope, receive, send_and_note)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            labels = (scope.get(ROUTE, "other"), method, str(status))
            self._requests.labels(*labels).observe(time.perf_counter() - began)


class ConnectionCloser:
    """Middleware that closes each connection after its next answer while the server drains, so that
    the client's next request reaches another server. HTTP/2 has no Connection field (RFC 9113,
    section 8.2.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or not scope["app"].state.is_draining
            or not scope["http_version"].startswith("1.")
        ):
            await self._app(scope, receive, send)
            return

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                fields = [each for each in message["headers"] if each[0] != b"connection"]
                message = {**message, "headers": [*fields, (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, send_last)


class Shortcut:
    """Middleware that answers requests for a few resources, and passes all others on.

    Nearly all requests are polls or new streams. The application's router and its exception
    handling would double their cost.
    """

    def __init__(self, app: ASGIApp, resources: Sequence[Resource]) -> None:
        self._app = app
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = await self._answer(scope, receive) if scope["type"] == "http" else None
        await (app or self._app)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> ASGIApp | None:
        segments = segments_of(scope)
        for resource in self._resources:
            parameters = resource.parameters(segments)
            if parameters is not None:
                scope["path_params"] = parameters
                return await self._respond(resource, Request(scope, receive))
        return None

    async def _respond(self, resource: Resource, request: Request) -> ASGIApp:
        try:
            return await resource.respond(request)
        except Exception as error:
            response = explain(error)
            if response is None:
                raise
            return response


class Admission:
    """Middleware that refuses the requests of an address that has used up its rate."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._limits.check_request(scope)
            except HTTPException as error:
                await self._refusal(scope, error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, error: HTTPException) -> ASGIApp:
        if scope["path"].endswith("/stream"):
            return RetryLater(STREAM_RETRY_MS)
        refusal = explain(error)
        assert refusal is not None
        return refusal
