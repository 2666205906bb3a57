"""Routes over the raw path: a parameter is one whole segment, whatever is escaped in it.

Product ids are free text. Starlette matches the decoded path, where an id with an escaped slash
falls apart; here `%2F` stays in its segment.
"""

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[ASGIApp]]
ErrorMap = Callable[[Exception], ASGIApp | None]


class Resource(BaseRoute):
    """A path such as `/api/inventory/{product_id}/stream`, with an endpoint a method.

    GET answers HEAD too. Any other method is a 405 that names the right ones (RFC 9110, 15.5.6).
    """

    def __init__(self, path: str, **endpoints: Endpoint) -> None:
        self.path = path
        self._endpoints = dict(endpoints)
        if "GET" in endpoints:
            self._endpoints["HEAD"] = endpoints["GET"]
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
        endpoint = self._endpoints.get(request.scope["method"])
        if endpoint is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self._endpoints))})
        return await endpoint(request)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http":
            parameters = self.parameters(_segments(scope))
            if parameters is not None:
                return Match.FULL, {"path_params": parameters}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.respond(Request(scope, receive))
        await response(scope, receive, send)


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
        segments = _segments(scope)
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


def _segments(scope: Scope) -> list[str]:
    raw: bytes | None = scope.get("raw_path")
    path: str = scope["path"] if raw is None else raw.partition(b"?")[0].decode("latin-1")
    segments = path.split("/")
    if root := scope.get("root_path", "").rstrip("/"):
        # Counted, as the raw path is escaped and the root is not.
        whole: str = scope["path"]
        if whole == root or whole.startswith(f"{root}/"):
            segments = ["", *segments[root.count("/") + 1 :]]
    return segments if len(segments) > 1 else ["", ""]
