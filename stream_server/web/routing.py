"""Routes over the raw path: a parameter is a whole segment, even if it contains escaped slashes.

Product ids are free text. Starlette matches the decoded path, in which an id with an escaped slash
becomes two segments; here `%2F` stays in its segment.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from stream_server.errors import InvalidRequest
from stream_server.web import writes

__all__ = ["METHODS", "ROUTE", "SAFE", "Endpoint", "Operation", "Resource", "is_api", "segments_of"]

API: Final = "/api"
CACHE_BUSTER: Final = "_"  # jQuery's `cache: false` sends it
LISTS: Final = frozenset({"productIds"})  # may be repeated, and may be called `productIds[]`
ROUTE: Final = "stream_server.route"  # in a scope: the template that the path matches
METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, section 9.2.1

Endpoint = Callable[[Request], Awaitable[ASGIApp]]
Guard = Callable[[Request], None]


class Operation:
    """A method of a resource: its endpoint, its query parameters and the guard of its writes.

    With `is_fixed`, it ignores unknown parameters: its caller has a URL that somebody configured,
    which may contain parameters for a proxy."""

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
    """A path such as `/api/inventory/{product_id}/stream`, with one endpoint for each method.

    The endpoint of GET also answers HEAD, and every resource answers OPTIONS. Any other method gets
    a 405 that names the allowed methods (RFC 9110, section 15.5.6). Under /api, a query parameter
    that the endpoint does not know gets a 400. Pages accept any parameter, because any site may
    link to them.
    """

    def __init__(self, path: str, **endpoints: Endpoint | Operation) -> None:
        self.path = path
        self.endpoints = {
            method: each if isinstance(each, Operation) else Operation(each)
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
        """Returns the parameters in the segments of a path; None if the path does not match."""
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
        """Returns the answer to a request for this path."""
        method = request.scope["method"]
        operation = self.endpoints.get(method)
        if operation is None:
            if method == "OPTIONS":
                return Response(status_code=204, headers=self._allow)
            raise HTTPException(405, headers=self._allow)
        if operation.guard is not None and method not in SAFE:
            operation.guard(request)
        if self._is_api and request.scope["query_string"] and not operation.is_fixed:
            _refuse_unknown(request, operation)
        return await operation.endpoint(request)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http":
            parameters = self.parameters(segments_of(scope))
            if parameters is not None:
                return Match.FULL, {"path_params": parameters, ROUTE: self.path}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.respond(Request(scope, receive))
        await response(scope, receive, send)


def is_api(path: str) -> bool:
    """Whether the path belongs to the API, which programs read, and not to a page."""
    return path == API or path.startswith(f"{API}/")


def _refuse_unknown(request: Request, operation: Operation) -> None:
    """Raises InvalidRequest for an unknown parameter, or for one with several values."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in operation.query:
            if name not in LISTS and given.setdefault(name, value) != value:
                raise InvalidRequest(name, "given only once")
        elif name != CACHE_BUSTER and name.removesuffix("[]") not in LISTS & operation.query:
            known = ", ".join(operation.names)
            raise InvalidRequest(
                name[:50], f"left out; the known parameters are {known}" if known else "left out"
            )


def segments_of(scope: Scope) -> list[str]:
    """Returns the segments of the raw path, without the path that we are mounted under. The first
    is empty, because paths begin with a slash."""
    raw: bytes | None = scope.get("raw_path")
    path: str = scope["path"] if raw is None else raw.partition(b"?")[0].decode("latin-1")
    segments = path.split("/")
    if root := scope.get("root_path", "").rstrip("/"):
        # By number of segments, because the raw path is escaped and the root is not.
        whole: str = scope["path"]
        if whole == root or whole.startswith(f"{root}/"):
            segments = ["", *segments[root.count("/") + 1 :]]
    return segments if len(segments) > 1 else ["", ""]
