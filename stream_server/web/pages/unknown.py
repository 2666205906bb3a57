"""Paths that no route matches: redirects to a page without the final slash, and 404s."""

from collections.abc import Sequence
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from stream_server.web.links import link
from stream_server.web.pages.rendering import page
from stream_server.web.routing import SAFE, Resource, is_api, segments_of
from stream_server.web.weights import weights

__all__ = ["UnknownPages", "prefers_html"]

HTML: Final = "text/html"
JSON: Final = "application/json"


class UnknownPages:
    """The answer to a request that no route matches. `pages` are the pages that people type and
    link; `otherwise` answers programs."""

    def __init__(self, pages: Sequence[Resource], otherwise: ASGIApp) -> None:
        self._pages = pages
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._otherwise
        if scope["type"] == "http" and scope["method"] in SAFE:
            request = Request(scope, receive)
            path = "/".join(segments_of(scope))
            if not is_api(path):
                answer = self._redirect(request, path) or await _find_nothing(request) or answer
        await answer(scope, receive, send)

    def _redirect(self, request: Request, path: str) -> Response | None:
        """Redirects to the page without the final slash, and keeps the query (RFC 9110, section
        15.4.9). Returns None if there is no such page."""
        bare = path.rstrip("/")
        segments = bare.split("/")
        if bare == path or all(each.parameters(segments) is None for each in self._pages):
            return None
        query = request.scope["query_string"].decode("latin-1")
        location = link(request, bare) + (f"?{query}" if query else "")
        return Response(status_code=308, headers={"Location": location})


async def _find_nothing(request: Request) -> Response | None:
    """Answers with a 404 page if the client prefers HTML; returns None if not."""
    if not prefers_html(request.headers.getlist("accept")):
        return None
    response = await page(_nowhere)(request)
    response.headers.add_vary_header("Accept")
    return response


async def _nowhere(_: Request) -> Response:
    raise HTTPException(404, "There is no such page.")


def prefers_html(lines: Sequence[str]) -> bool:
    """Whether an Accept (RFC 9110, section 12.5.1) names HTML, and does not prefer JSON. Programs
    send `*/*`, which names neither."""
    given = weights(",".join(lines))
    html = given.get(HTML, 0.0)
    return html > 0 and html >= given.get(JSON, 0.0)
