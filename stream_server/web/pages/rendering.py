"""Pages for people: templates, what they link, and the headers that they are sent with.

Everything in a template is escaped, and nothing in a page is inline: the policy allows scripts,
styles and pictures of this server only. So a product's name can hold any text and stays text.
"""

from __future__ import annotations

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
from stream_server.inventory.catalogue import ProductDetails
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

__all__ = ["Pages", "compressed", "money", "page", "static_routes"]

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
FOR_EVER: Final = "public, max-age=31536000, immutable"
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",  # a reservation's token is in some addresses
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # and not no-store: the back button shows the page at once
}
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_NOT_FOR_PAGES: Final = ("react.js", "hooks.js")

Endpoint = Callable[[Request], Awaitable[Response]]


class Pages:
    """The templates, and the files that they link, under the hash of their content."""

    def __init__(self, client: ClientFiles, settings: Settings) -> None:
        folder = files("stream_server") / "static" / "shop"
        # Relative, so that they need not know the prefix; by the hash, so that it is kept.
        of_client = f"'../../client/{client.hash}/".encode()
        self.files = {
            each.name: each.read_bytes().replace(b"'/client/", of_client)
            for each in folder.iterdir()
        }
        self.hash = _hash(self.files)
        self._client = client
        self._settings = settings
        self._environment_at = lru_cache(maxsize=8)(self._made_environment)

    def _made_environment(self, prefix: str) -> Environment:
        """The templates, with all that they link under a prefix."""

        def linked(path: Callable[..., str]) -> Callable[..., str]:
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
            most_units=self._most_units,
            link=linked(str),
            client=linked(self._client.url),
            client_modules=[
                name
                for name in sorted(self._client.sources)
                if name.endswith(".js") and name not in _NOT_FOR_PAGES
            ],
            static=linked(self.url),
            picture=linked(pictures.url),
            message=rules.product_page_message,
        )
        return environment

    def _most_units(self, facts: ProductDetails) -> int:
        """The most units of a product that one order may have, whatever is in stock."""
        most = self._settings.max_units_per_line
        return most if facts.max_per_order is None else min(most, facts.max_per_order)

    def url(self, name: str) -> str:
        """The path of a file in static/shop. Raises KeyError for one unknown."""
        assert self.files[name] is not None
        return f"/static/{self.hash}/{name}"

    def answer(
        self, request: Request, template: str, status: int = 200, **given: object
    ) -> Response:
        """A page."""
        environment = self._environment_at(prefix_of(request))
        text = environment.get_template(template).render(**given)
        return compressed(request, text.encode(), "text/html; charset=utf-8", _HEADERS, status)


def page(endpoint: Endpoint) -> Endpoint:
    """The endpoint of a page: errors that are known are answered with one, too."""

    async def answer(request: Request) -> Response:
        try:
            limits_of(request).count_request(request.scope, PAGE)
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
    """The files of static/shop. They find the Pages in `request.app.state`."""
    return [Resource("/static/{hash}/{name}", GET=_static)]


async def _static(request: Request) -> Response:
    """An unknown hash comes from a page of another release: the answer is our file, but it may not
    be cached."""
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
    return compressed(request, pages.files[name], kind, headers)


def compressed(
    request: Request, body: bytes, kind: str, headers: Mapping[str, str], status: int = 200
) -> Response:
    """An answer, by gzip where the client takes it."""
    headers = {**headers, "Vary": "Accept-Encoding"}
    if accepts_gzip(request):
        body = gzip.compress(body, 6, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, status, headers, kind)


def money(amount: int, currency: str) -> str:
    """An amount in a currency's smallest unit (cents, yen), as browsers write it in English."""
    digits = digits_of(currency)
    symbol = get_currency_symbol(currency, "en")
    # A code of letters stands apart from the number, a sign does not (CLDR's currencySpacing, which
    # Babel leaves out).
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
