"""Where browsers find what this server has: paths with the prefix that is in front of ours.

That is the path of PUBLIC_URL or, without one, what the application is mounted under (ASGI's
`root_path`). Whatever is sent to a browser and leads to us goes through `link`.
"""

from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from stream_server.web import state

__all__ = ["Unprefixed", "link", "prefix_of"]


def link(request: Request, path: str) -> str:
    """One of our paths, such as `/products?q=oak`, as browsers must ask for it."""
    return prefix_of(request) + path


def prefix_of(request: Request) -> str:
    """What browsers put in front of our paths: empty, or such as `/stock`, escaped as in a URL."""
    if state.settings(request).public_url:
        path: str = state.settings(request).public_path
        return path
    return quote(request.scope.get("root_path", "").rstrip("/"))


class Unprefixed:
    """Middleware for proxies that leave the prefix on: it becomes a part of `root_path`, which
    routes leave aside. None of our own paths begins as a prefix may, so it is never mistaken."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = unquote(prefix)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            prefix = scope.get("root_path", "") + self._prefix
            if scope["path"] == prefix or scope["path"].startswith(f"{prefix}/"):
                scope = {**scope, "root_path": prefix}
        await self._app(scope, receive, send)
