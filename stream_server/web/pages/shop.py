"""The pages of the example shop. The server renders them, so they work without JavaScript; the
client's elements keep the numbers live.

Facts come from the database, numbers from the hub. The browser keeps the cart and the checkout, so
their pages are the same for everybody.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stream_server.errors import ProductNotFound
from stream_server.inventory import catalogue, reservations
from stream_server.inventory.catalogue import Facts
from stream_server.inventory.reservations import Reservation
from stream_server.streaming.frames import to_json
from stream_server.streaming.hub import Hub
from stream_server.web import inputs, state
from stream_server.web.limits import limits_of
from stream_server.web.pages import pictures
from stream_server.web.pages.rendering import FOR_EVER, Pages, compress, page
from stream_server.web.product_json import JSON, product_data
from stream_server.web.routing import Resource
from stream_server.web.state import loaded_hub

__all__ = ["page_routes", "priced_lines"]

PAGE: Final = 48  # cards
NOTIFICATIONS: Final = "/api/products/{product_id}/notifications"


@dataclass(frozen=True, slots=True)
class Item:
    """A product on a page: facts, which seldom change, and the data that streams update."""

    facts: Facts
    data: JSON

    @property
    def id(self) -> str:
        return self.facts.id

    @property
    def is_limited(self) -> bool:
        """Whether the product is a limited edition: named so, and with limited stock."""
        words = f"{self.facts.name} {self.facts.category}".lower()
        return "edition" in words and self.data["maxQuantity"] is not None

    @property
    def path(self) -> str:
        return f"/products/{quote(self.id, safe='')}"


def page_routes() -> list[Resource]:
    """Returns the routes of the shop's pages. They need hub, pool, settings and pages in
    `request.app.state`."""
    return [
        Resource("/", GET=page(_home)),
        Resource("/products", GET=page(_listing)),
        Resource("/products/{product_id}", GET=page(_product)),
        Resource("/cart", GET=page(_cart)),
        Resource("/checkout", GET=page(_checkout)),
        Resource("/thanks", GET=page(_thanks)),
        Resource("/pictures/{version}/{product_id}", GET=_picture),
    ]


async def _home(request: Request) -> Response:
    return await _list(request, is_home=True)


async def _listing(request: Request) -> Response:
    """Answers with a page of products. Takes `?q=` words, `?category=`, `?limit=` 1 to 200 and
    `?after=` (the last product of the previous page)."""
    return await _list(request, is_home=False)


async def _list(request: Request, *, is_home: bool) -> Response:
    hub = loaded_hub(request)
    query = request.query_params
    words = inputs.optional_text(query.get("q", "").strip() or None, "q")
    category = inputs.optional_text(query.get("category") or None, "category")
    limit = inputs.whole_in_query(request, "limit", default=PAGE, min_value=1, max_value=200)
    if words is not None:
        limits_of(request).check_search(request)
    found = await catalogue.find_products(
        state.pool(request),
        words=words,
        category=category,
        after=inputs.optional_text(query.get("after") or None, "after"),
        most=limit + 1,
    )
    following = None
    if len(found) > limit:
        kept = {"q": words, "category": category, "limit": query.get("limit")}
        kept["after"] = found[limit - 1].id
        following = "/products?" + urlencode({name: value for name, value in kept.items() if value})
    return _answer(
        request,
        "products.html",
        categories=await state.shelf(request).categories(state.pool(request)),
        **_with_stock(hub, _items(hub, found[:limit])),
        words=words,
        category=category,
        following=following,
        is_home=is_home and not (words or category),
    )


async def _product(request: Request) -> Response:
    hub = loaded_hub(request)
    product_id = request.path_params["product_id"]
    product = hub.public(product_id)
    facts = await catalogue.find_product(state.pool(request), product_id)
    if product is None or facts is None:
        raise ProductNotFound(product_id)
    item = Item(facts, product_data(product))
    found = await state.shelf(request).alternatives(state.pool(request), [product_id])
    others = [each for each in found[product_id] if _is_available(hub, each)]
    facts_of = [
        await catalogue.find_product(state.pool(request), each)
        for each in others[: catalogue.MOST_ALTERNATIVES]
    ]
    alternatives = _items(hub, filter(None, facts_of))
    return _answer(
        request,
        "product.html",
        item=item,
        selected=_select(item.data, request.query_params.get("variantId")),
        alternatives=alternatives,
        stock=_stock(hub, [item, *alternatives]),
        can_notify=any(getattr(each, "path", "") == NOTIFICATIONS for each in request.app.routes),
    )


def _is_available(hub: Hub, product_id: str) -> bool:
    product = hub.public(product_id)
    return product is not None and bool(product_data(product)["isAvailable"])


def _select(data: JSON, variant_id: str | None) -> JSON | None:
    """Returns the variant that was asked for; else the first that is available; else the first."""
    variants: Sequence[JSON] = data.get("variants", ())
    for each in variants:
        if each["variantId"] == variant_id:
            return each
    return next((each for each in variants if each["isAvailable"]), next(iter(variants), None))


async def _cart(request: Request) -> Response:
    return _answer(request, "cart.html")


async def _checkout(request: Request) -> Response:
    return _answer(request, "checkout.html", payment_url=state.settings(request).payment_url)


async def _thanks(request: Request) -> Response:
    """Says that `?reservation=` (its token) is paid, or that the payment is on its way."""
    token = inputs.text(request.query_params.get("reservation"), "reservation")
    reservation = await reservations.find(state.pool(request), token)
    lines = priced_lines(loaded_hub(request), reservation)
    is_paid = reservation["status"] == "converted"
    return _answer(request, "thanks.html", lines=lines, is_paid=is_paid, token=token)


async def _picture(request: Request) -> Response:
    """Answers with a picture. Takes `?finish=` (the value of a variant). Every id has a picture, so
    nothing is looked up."""
    product_id = request.path_params["product_id"]
    finish = request.query_params.get("finish", "")
    if len(product_id) > inputs.MAX_ID or len(finish) > inputs.MAX_ID:
        raise HTTPException(404)
    is_current = request.path_params["version"] == pictures.VERSION
    headers = {
        "Cache-Control": FOR_EVER if is_current else "no-cache",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    drawn = pictures.draw(product_id, finish).encode()
    return compress(request, drawn, "image/svg+xml; charset=utf-8", headers)


def priced_lines(hub: Hub, reservation: Reservation) -> list[dict[str, Any]]:
    """Returns the lines of a reservation, with current names and the prices of the reservation:
    `price` and `total` are in cents."""
    lines = []
    for line in reservation["lines"]:
        product = hub.public(line["productId"])
        data: JSON = product_data(product) if product else {"name": line["productId"]}
        variants = {each["variantId"]: each for each in data.get("variants", ())}
        variant = variants.get(line["variantId"], {})
        price = line["unitPrice"]
        lines.append(
            {
                "name": data["name"],
                "variant": variant.get("variantValue", ""),
                "productId": line["productId"],
                "quantity": line["quantity"],
                "price": price,
                "total": price * line["quantity"],
            }
        )
    return lines


def _items(hub: Hub, found: Iterable[Facts]) -> list[Item]:
    return [
        Item(facts, product_data(product))
        for facts in found
        if (product := hub.public(facts.id)) is not None
    ]


def _with_stock(hub: Hub, items: list[Item]) -> dict[str, object]:
    return {"items": items, "stock": _stock(hub, items)}


def _stock(hub: Hub, items: Iterable[Item]) -> str:
    """Returns the text of a script element that holds data (HTML standard, section 4.12.1.3): the
    page's products by id, and the position from which a stream continues without repeating them.
    """
    known = b",".join(
        b"%b:%b" % (to_json(item.id), hub.json(item.id))
        for item in items
        if hub.public(item.id) is not None
    )
    data = b'{"position":%b,"known":{%b}}' % (to_json(hub.position()), known)
    return data.decode().replace("<", "\\u003c")  # so that the data cannot contain a tag


def _answer(request: Request, template: str, **given: Any) -> Response:  # what templates take
    pages: Pages = request.app.state.pages
    return pages.answer(request, template, **given)
