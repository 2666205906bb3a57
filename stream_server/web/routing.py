"""Routes over the raw path: a parameter is one whole segment, whatever is escaped in it.

Product ids are free text. Starlette matches the decoded path, where an id with an escaped slash
falls apart; here `%2F` stays in its segment.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream_server.errors import InvalidRequest
from stream_server.metrics import Metrics
from stream_server.web import writes

__all__ = ["Endpoint", "Measured", "Resource", "Shortcut", "Taking", "is_api", "segments_of"]

API: Final = "/api"
CACHE_BUSTER: Final = "_"  # jQuery's `cache: false` sends it
LISTS: Final = frozenset({"productIds"})  # may be repeated, and be called `productIds[]`
ROUTE: Final = "stream_server.route"  # in a scope: the template that its path has matched
METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, section 9.2.1

Endpoint = Callable[[Request], Awaitable[ASGIApp]]
ErrorMap = Callable[[Exception], ASGIApp | None]
Guard = Callable[[Request], None]


class Taking:
    """An endpoint, the query parameters that it knows, and what a write must be like (`guard`).
    With `is_fixed` its caller sends what somebody once wrote into a form of his: parameters that a
    proxy wants, too, which are passed over."""

    def __init__(
        self,
        endpoint: Endpoint,
        *query: str,
        guard: Guard | None = writes.refuse_but_json,
        is_fixed: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.is_fixed = is_fixed
        self.query = frozenset(query)
        self.names = query
        self.guard = guard


class Resource(BaseRoute):
    """A path such as `/api/inventory/{product_id}/stream`, with an endpoint a method.

    GET answers HEAD too, and all answer OPTIONS. Any other method is a 405 that names the right
    ones (RFC 9110, 15.5.6). Under /api, a query parameter that the endpoint does not know is a
    400; pages are linked from anywhere, with parameters of all sorts.
    """

    def __init__(self, path: str, **endpoints: Endpoint | Taking) -> None:
        self.path = path
        self.endpoints = {
            method: each if isinstance(each, Taking) else Taking(each)
            for method, each in endpoints.items()
        }
        if "GET" in endpoints:
            self.endpoints["HEAD"] = self.endpoints["GET"]
        self._allow = {"Allow": ", ".join(sorted((*self.endpoints, "OPTIONS")))}
        self._is_api = is_api(path)
        segments = list(enumerate(path.split("/")))
        self._length = len(segments)
        self._names = [(i, each[1:-1]) for i, each in segments if each.startswith("{")]
        self._fixed = [(i, each) for i, each in segments if not each.startswith("{")]

    def parameters(self, segments: Sequence[str]) -> dict[str, str] | None:
        """The parameters in a path's segments; None if it is another path."""
        if len(segments) != self._length:
            return None
        for index, segment in self._fixed:
            if segments[index] != segment:
                return None
        parameters = {}
        for index, name in self._names:
            segment = segments[index]
            if not segment:
                return None
            parameters[name] = unquote(segment) if "%" in segment else segment
        return parameters

    async def respond(self, request: Request) -> ASGIApp:
        """The answer to a request for this path."""
        method = request.scope["method"]
        taking = self.endpoints.get(method)
        if taking is None:
            if method == "OPTIONS":
                return Response(status_code=204, headers=self._allow)
            raise HTTPException(405, headers=self._allow)
        if taking.guard is not None and method not in SAFE:
            taking.guard(request)
        if self._is_api and request.scope["query_string"] and not taking.is_fixed:
            _refuse_unknown(request, taking)
        return await taking.endpoint(request)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http":
            parameters = self.parameters(segments_of(scope))
            if parameters is not None:
                return Match.FULL, {"path_params": parameters, ROUTE: self.path}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.respond(Request(scope, receive))
        await response(scope, receive, send)


class Measured:
    """Middleware that counts requests and how long their answers took, by route, method and
    status. What clients make up is `other`, so there are only so many series."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._requests = metrics.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # unless it is answered

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


class Ending:
    """Middleware that ends connections with their next answer while the server drains: whoever
    asks again is sent to another one. HTTP/2 has no such field (RFC 9113, section 8.2.2)."""

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
    """Middleware that answers a few resources itself, and leaves the rest to the application.

    Polls and new streams are nearly all requests; the general router and its exception handling
    would be half of what they cost. `explain` gives the answer to an error, None for an unknown.
    """

    def __init__(self, app: ASGIApp, resources: Sequence[Resource], explain: ErrorMap) -> None:
        self._app = app
        self._resources = resources
        self._explain = explain

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
            response = self._explain(error)
            if response is None:
                raise
            return response


def is_api(path: str) -> bool:
    """Whether programs read what is there, not people."""
    return path == API or path.startswith(f"{API}/")


def _refuse_unknown(request: Request, taking: Taking) -> None:
    """Raises InvalidRequest for a parameter that would be ignored, or that is there twice."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in taking.query:
            if name not in LISTS and given.setdefault(name, value) != value:
                raise InvalidRequest(name, "given once")
        elif name != CACHE_BUSTER and name.removesuffix("[]") not in LISTS & taking.query:
            known = ", ".join(taking.names)
            raise InvalidRequest(
                name[:50], f"left out: known parameters are {known}" if known else "left out"
            )


def segments_of(scope: Scope) -> list[str]:
    """The parts of the raw path, which begins with a slash; without what we are mounted under."""
    raw: bytes | None = scope.get("raw_path")
    path: str = scope["path"] if raw is None else raw.partition(b"?")[0].decode("latin-1")
    segments = path.split("/")
    if root := scope.get("root_path", "").rstrip("/"):
        # Counted, as the raw path is escaped and the root is not.
        whole: str = scope["path"]
        if whole == root or whole.startswith(f"{root}/"):
            segments = ["", *segments[root.count("/") + 1 :]]
    return segments if len(segments) > 1 else ["", ""]
