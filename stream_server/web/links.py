"""Links to this server: its paths, with the prefix under which browsers reach them.

The prefix is the path of PUBLIC_URL or, without PUBLIC_URL, the path that the application is
mounted under (ASGI's `root_path`). Every link to this server that is sent to a browser goes through
`link`.
"""

from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from stream_server.web import state

__all__ = ["PrefixRemover", "link", "prefix_of"]


def link(request: Request, path: str) -> str:
    """Adds the prefix to one of our paths, such as `/products?q=oak`."""
    return prefix_of(request) + path


def prefix_of(request: Request) -> str:
    """Returns the prefix of our paths, escaped for URLs: `/stock`, for example, or empty."""
    if state.settings(request).public_url:
        path: str = state.settings(request).public_path
        return path
    return quote(request.scope.get("root_path", "").rstrip("/"))


class PrefixRemover:
    """Middleware for proxies that pass the prefix on. It moves the prefix to `root_path`, which
    routes ignore. A prefix never begins like one of our own paths, so the two cannot be
    confused."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = unquote(prefix)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            prefix = scope.get("root_path", "") + self._prefix
            if scope["path"] == prefix or scope["path"].startswith(f"{prefix}/"):
                scope = {**scope, "root_path": prefix}
        await self._app(scope, receive, send)
