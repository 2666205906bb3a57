"""Routes over the raw path: a parameter is one whole segment, whatever is escaped in it.

Product ids are free text. Starlette matches the decoded path, where an id with an escaped slash
falls apart; here `%2F` stays in its segment.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[ASGIApp]]


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

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        segments = _raw_path(scope).split("/")
        if len(segments) != self._length:
            return Match.NONE, {}
        for index, segment in self._fixed:
            if segments[index] != segment:
                return Match.NONE, {}
        parameters = {name: unquote(segments[index]) for index, name in self._names}
        if not all(parameters.values()):
            return Match.NONE, {}
        return Match.FULL, {"path_params": parameters}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope["method"])
        if endpoint is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self._endpoints))})
        response = await endpoint(Request(scope, receive))
        await response(scope, receive, send)


def _raw_path(scope: Scope) -> str:
    raw: bytes | None = scope.get("raw_path")
    path: str = scope["path"] if raw is None else raw.partition(b"?")[0].decode("latin-1")
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root) else path
