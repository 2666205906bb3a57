"""What a shop's pages need of products: facts from the database, numbers from the hub."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from stream_server.errors import InsufficientStock, ProductNotFound
from stream_server.inventory import catalogue
from stream_server.inventory.catalogue import ProductDetails
from stream_server.streaming.frames import to_json
from stream_server.streaming.hub import Hub
from stream_server.streaming.products import Product
from stream_server.web import inputs, state
from stream_server.web.answers import success
from stream_server.web.compression import compressing
from stream_server.web.limits import IDS_A_REQUEST, QUERY, limits_of
from stream_server.web.product_json import JSON, product_data
from stream_server.web.routing import Resource, Taking
from stream_server.web.state import loaded_hub

__all__ = ["product_routes", "with_alternatives"]

MOST_EXPLAINED: Final = 5  # short lines of a cart that are told what to buy instead

_BRIEFLY = ("productId", "name", "price", "availableQuantity", "stock", "stockMessage")


def product_routes() -> list[Resource]:
    """The routes of products. They find hub and pool in `request.app.state`."""
    return [
        Resource(
            "/api/products",
            GET=Taking(compressing(_find_several), "q", "category", "limit", "after"),
        ),
        Resource("/api/products/{product_id}", GET=compressing(_get_one)),
        Resource("/api/products/{product_id}/alternatives", GET=compressing(_get_alternatives)),
    ]


async def _find_several(request: Request) -> Response:
    """`?q=` words, `?category=`, `?limit=` 1 to 200, `?after=` the `next` of the page before."""
    hub = loaded_hub(request)
    query = request.query_params
    limit = inputs.whole_in_query(request, "limit", default=50, lowest=1, highest=200)
    words = inputs.optional_text(query.get("q") or None, "q")
    if words is not None:
        limits_of(request).count_search(request)
    limits_of(request).count_request(request.scope, QUERY + limit // IDS_A_REQUEST)
    found = await catalogue.find_products(
        state.pool(request),
        words=words,
        category=inputs.optional_text(query.get("category") or None, "category"),
        after=inputs.optional_text(query.get("after") or None, "after"),
        max_count=limit + 1,
    )
    following = found[limit - 1].id if len(found) > limit else None
    products = [
        _product_with_facts(product, facts)
        for facts in found[:limit]
        if (product := hub.public(facts.id)) is not None
    ]
    beside = {"next": following, "limits": _limits(request)}
    return success(to_json(products), beside=beside)


async def _get_one(request: Request) -> Response:
    hub = loaded_hub(request)
    product_id = request.path_params["product_id"]
    product = hub.public(product_id)
    if product is None:
        raise ProductNotFound(product_id)
    limits_of(request).count_query(request)
    facts = await catalogue.find_product(state.pool(request), product_id)
    if facts is None:
        raise ProductNotFound(product_id)
    beside = {"limits": _limits(request)}
    return success(to_json(_product_with_facts(product, facts)), beside=beside)


async def _get_alternatives(request: Request) -> Response:
    hub = loaded_hub(request)
    product_id = request.path_params["product_id"]
    if hub.public(product_id) is None:
        raise ProductNotFound(product_id)
    limits_of(request).count_query(request)
    found = await state.shelf(request).alternatives(state.pool(request), [product_id])
    return success(to_json(_briefly(hub, found[product_id], ())))


async def with_alternatives(request: Request, error: InsufficientStock) -> InsufficientStock:
    """The same refusal; the first lines of which there is too little say what could be bought
    instead: at most three that are in stock, of the same category first, nearest in price."""
    hub = state.hub(request)
    asked = {str(line["productId"]) for line in error.lines}
    short = [str(line["productId"]) for line in error.lines if _is_short(line)]
    explained = list(dict.fromkeys(short))[:MOST_EXPLAINED]
    found = await state.shelf(request).alternatives(state.pool(request), explained)
    return InsufficientStock(
        [
            {
                **line,
                "alternatives": _briefly(hub, found.get(str(line["productId"]), ()), asked)
                if _is_short(line)
                else [],
            }
            for line in error.lines
        ]
    )


def _is_short(line: object) -> bool:
    assert isinstance(line, dict)
    return bool(line["available"] < line["requested"])


def _briefly(hub: Hub, product_ids: Iterable[str], besides: Container[str]) -> Sequence[JSON]:
    """The first that can be bought, and are not there already."""
    shown: list[JSON] = []
    for product_id in product_ids:
        product = hub.public(product_id)
        if product is None or product_id in besides or len(shown) == catalogue.MAX_ALTERNATIVES:
            continue
        data = product_data(product)
        if data["isAvailable"]:
            shown.append({field: data[field] for field in _BRIEFLY})
    return shown


def _product_with_facts(product: Product, facts: ProductDetails) -> JSON:
    return {
        **product_data(product),
        "description": facts.description,
        "category": facts.category,
        "requiresAssembly": facts.requires_assembly,
        "hasVariants": facts.has_variants,
        "maxPerOrder": facts.max_per_order,
    }


def _limits(request: Request) -> JSON:
    """What one reservation without a token may have, whatever is in stock."""
    settings = state.settings(request)
    return {
        "unitsPerLine": settings.max_units_per_line,
        "unitsPerCart": settings.max_units_per_cart,
        "linesPerCart": inputs.MAX_LINES,
    }
