"""The routes that there are, and those that docs/api.md has."""

import re
from collections.abc import Mapping
from pathlib import Path

from starlette.applications import Starlette

from stream_server.web.api.inventory import inventory_routes
from stream_server.web.api.streams import stream_routes
from stream_server.web.routing import Resource

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"
ROW = re.compile(r"^\| `(GET|POST|DELETE) (/[^`]*)` \|([^|]*)\|([^|]*)\|", re.MULTILINE)

Routes = Mapping[tuple[str, str], frozenset[str]]


def all_routes(app: Starlette) -> list[Resource]:
    """Those of the middleware, too."""
    routes = [*stream_routes(), *inventory_routes(), *app.routes]
    return [each for each in routes if isinstance(each, Resource)]


def routes_there_are(app: Starlette) -> Routes:
    """Method and path of each, and the query parameters that it knows."""
    return {
        (method, each.path): operation.query
        for each in all_routes(app)
        for method, operation in each.endpoints.items()
        if method != "HEAD"
    }


def documented_routes() -> Routes:
    """The same, as docs/api.md says it."""
    return {
        (method, path): frozenset(re.findall(r"`(\w+)`", parameters))
        for method, path, _, parameters in ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    }
