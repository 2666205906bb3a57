"""Pages for people: templates, the files that they link, and their headers.

Templates escape all values, and pages have no inline scripts or styles: the policy allows only
those of this server. So a product's name may contain anything, and remains text.
"""

import gzip
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from functools import lru_cache, partial
from hashlib import blake2b
from importlib.resources import files
from typing import Final

from babel.numbers import format_currency, get_currency_symbol
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stream_server.errors import StreamServerError
from stream_server.inventory import rules
from stream_server.inventory.catalogue import Facts
from stream_server.inventory.money import digits_of
from stream_server.settings import Settings
from stream_server.web import inputs
from stream_server.web.browser.files import ClientFiles
from stream_server.web.encodings import accepts_gzip
from stream_server.web.errors import explain
from stream_server.web.limits import PAGE, limits_of
from stream_server.web.links import prefix_of
from stream_server.web.pages import pictures
from stream_server.web.routing import Resource

__all__ = ["FOR_EVER", "Pages", "compress", "money", "page", "static_routes"]

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
FOR_EVER: Final = "public, max-age=31536000, immutable"
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",  # some URLs contain the token of a reservation
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # not no-store: the back button then shows the page at once
}
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_NOT_FOR_PAGES: Final = ("react.js", "hooks.js")

Endpoint = Callable[[Request], Awaitable[Response]]


class Pages:
    """The templates, and the files that they link under the hash of their content."""

    def __init__(self, client: ClientFiles, settings: Settings) -> None:
        folder = files("stream_server") / "static" / "shop"
        # Relative, so it works under any prefix; with the hash, so browsers may cache it.
        of_client = f"'../../client/{client.hash}/".encode()
        self.files = {
            each.name: each.read_bytes().replace(b"'/client/", of_client)
            for each in folder.iterdir()
        }
        self.hash = _hash(self.files)
        self._client = client
        self._settings = settings
        self._environment_at = lru_cache(maxsize=8)(self._make_environment)

    def _make_environment(self, prefix: str) -> Environment:
        """Returns the environment of the templates, whose links have the prefix."""

        def prefix_links(path: Callable[..., str]) -> Callable[..., str]:
            return lambda *given: prefix + path(*given)

        environment = Environment(
            loader=PackageLoader("stream_server"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(money=partial(money, currency=self._settings.currency))
        environment.globals.update(
            currency=self._settings.currency,
            max_lines=inputs.MAX_LINES,
            max_units=self._settings.max_units_per_line,
            max_cart_units=self._settings.max_units_per_cart,
            max_units_of=self._max_units_of,
            link=prefix_links(str),
            client=prefix_links(self._client.url),
            client_modules=[
                name
                for name in sorted(self._client.sources)
                if name.endswith(".js") and name not in _NOT_FOR_PAGES
            ],
            static=prefix_links(self.url),
            picture=prefix_links(pictures.url),
            message=rules.product_page_message,
        )
        return environment

    def _max_units_of(self, facts: Facts) -> int:
        """Returns the limit on units of the product in one order; stock may be lower."""
        max_units = self._settings.max_units_per_line
        return max_units if facts.max_per_order is None else min(max_units, facts.max_per_order)

    def url(self, name: str) -> str:
        """Returns the path of a file in static/shop. Raises KeyError for an unknown file."""
        if name not in self.files:
            raise KeyError(name)
        return f"/static/{self.hash}/{name}"

    def answer(
        self, request: Request, template: str, status: int = 200, **given: object
    ) -> Response:
        """Returns a page, rendered from the template."""
        environment = self._environment_at(prefix_of(request))
        text = environment.get_template(template).render(**given)
        return compress(request, text.encode(), "text/html; charset=utf-8", _HEADERS, status)


def page(endpoint: Endpoint) -> Endpoint:
    """Wraps the endpoint of a page: known errors are answered with a page, too."""

    async def answer(request: Request) -> Response:
        try:
            limits_of(request).check_request(request.scope, PAGE)
            return await endpoint(request)
        except (StreamServerError, HTTPException) as error:
            known = explain(error)
            assert known is not None
            pages: Pages = request.app.state.pages
            response = pages.answer(
                request,
                "message.html",
                known.status_code,
                title={404: "Not found", 503: "Back in a moment"}.get(known.status_code, "Sorry"),
                text=error.detail if isinstance(error, HTTPException) else error.message,
            )
            if retry := known.headers.get("Retry-After"):
                response.headers["Retry-After"] = retry
            return response

    return answer


def static_routes() -> list[Resource]:
    """Returns the route of the files in static/shop. It needs the Pages in `request.app.state`."""
    return [Resource("/static/{hash}/{name}", GET=_static)]


async def _static(request: Request) -> Response:
    """Answers with a file. A page of another release has another hash: it gets our file, but must
    not cache it."""
    pages: Pages = request.app.state.pages
    name = request.path_params["name"]
    if name not in pages.files:
        raise HTTPException(404, f"There is no file {name!r}")
    is_ours = request.path_params["hash"] == pages.hash
    kind = f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"
    headers = {
        "Cache-Control": FOR_EVER if is_ours else "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    return compress(request, pages.files[name], kind, headers)


def compress(
    request: Request, body: bytes, kind: str, headers: Mapping[str, str], status: int = 200
) -> Response:
    """Returns an answer, compressed with gzip if the client accepts it."""
    headers = {**headers, "Vary": "Accept-Encoding"}
    if accepts_gzip(request):
        body = gzip.compress(body, 6, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, status, headers, kind)


def money(amount: int, currency: str) -> str:
    """Formats an amount in a currency's smallest unit (cents, yen), as browsers do in English."""
    digits = digits_of(currency)
    symbol = get_currency_symbol(currency, "en")
    # A code of letters is followed by a space, a sign is not (CLDR's currencySpacing, which Babel
    # does not apply).
    gap = "" if unicodedata.category(symbol[-1]).startswith("S") else "\N{NO-BREAK SPACE}"
    decimals = f".{'0' * digits}" if digits else ""
    value = Decimal(amount).scaleb(-digits)
    return format_currency(
        value, currency, f"¤{gap}#,##0{decimals}", locale="en", currency_digits=False
    )


def _hash(sources: Mapping[str, bytes]) -> str:
    digest = blake2b(digest_size=8)
    for name, source in sorted(sources.items()):
        digest.update(b"%b\0%d\0%b" % (name.encode(), len(source), source))
    return digest.hexdigest()
