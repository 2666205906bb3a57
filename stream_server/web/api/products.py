"""Products for the pages of a shop: facts from the database, numbers from the hub."""

from collections.abc import Container, Iterable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from stream_server.errors import InsufficientStock, ProductNotFound
from stream_server.inventory import catalogue
from stream_server.inventory.catalogue import ProductDetails
from stream_server.streaming.hub import Hub
from stream_server.streaming.products import Product
from stream_server.web import inputs, state
from stream_server.web.answers import success
from stream_server.web.compression import compress_answers
from stream_server.web.limits import IDS_A_REQUEST, QUERY, limits_of
from stream_server.web.product_json import JSON, product_data
from stream_server.web.routing import Operation, Resource
from stream_server.web.state import loaded_hub

__all__ = ["product_routes", "with_alternatives"]

MAX_EXPLAINED: Final = 5  # lines of a cart that get alternatives

_SUMMARY: Final = ("productId", "name", "price", "availableQuantity", "stock", "stockMessage")


def product_routes() -> list[Resource]:
    """Returns the routes of products. They need hub and pool in `request.app.state`."""
    return [
        Resource(
            "/api/products",
            GET=Operation(compress_answers(_find_several), "q", "category", "limit", "after"),
        ),
        Resource("/api/products/{product_id}", GET=compress_answers(_get_one)),
        Resource(
            "/api/products/{product_id}/alternatives", GET=compress_answers(_get_alternatives)
        ),
    ]


async def _find_several(request: Request) -> Response:
    """Finds products. Takes `?q=` words, `?category=`, `?limit=` 1 to 200 and `?after=` (the `next`
    of the previous page)."""
    hub = loaded_hub(request)
    query = request.query_params
    limit = inputs.whole_in_query(request, "limit", default=50, min_value=1, max_value=200)
    words = inputs.optional_text(query.get("q") or None, "q")
    if words is not None:
        limits_of(request).check_search(request)
    limits_of(request).check_request(request.scope, QUERY + limit // IDS_A_REQUEST)
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
    return success(products, beside=beside)


async def _get_one(request: Request) -> Response:
    """Answers with a product."""
    hub = loaded_hub(request)
    product_id = request.path_params["product_id"]
    product = hub.public(product_id)
    if product is None:
        raise ProductNotFound(product_id)
    limits_of(request).check_query(request)
    facts = await catalogue.find_product(state.pool(request), product_id)
    if facts is None:
        raise ProductNotFound(product_id)
    beside = {"limits": _limits(request)}
    return success(_product_with_facts(product, facts), beside=beside)


async def _get_alternatives(request: Request) -> Response:
    """Answers with available alternatives to a product."""
    hub = loaded_hub(request)
    product_id = request.path_params["product_id"]
    if hub.public(product_id) is None:
        raise ProductNotFound(product_id)
    limits_of(request).check_query(request)
    found = await state.shelf(request).alternatives(state.pool(request), [product_id])
    return success(_summarize(hub, found[product_id], ()))


async def with_alternatives(request: Request, error: InsufficientStock) -> InsufficientStock:
    """Returns the refusal with alternatives for the first short lines: up to three products each
    that are in stock, those of the same category first, then those nearest in price."""
    hub = state.hub(request)
    asked = {str(line["productId"]) for line in error.lines}
    short = [str(line["productId"]) for line in error.lines if _is_short(line)]
    explained = list(dict.fromkeys(short))[:MAX_EXPLAINED]
    found = await state.shelf(request).alternatives(state.pool(request), explained)
    return InsufficientStock(
        [
            {
                **line,
                "alternatives": _summarize(hub, found.get(str(line["productId"]), ()), asked)
                if _is_short(line)
                else [],
            }
            for line in error.lines
        ]
    )


def _is_short(line: object) -> bool:
    assert isinstance(line, dict)
    return bool(line["available"] < line["requested"])


def _summarize(hub: Hub, product_ids: Iterable[str], besides: Container[str]) -> Sequence[JSON]:
    """Returns the first available products that are not in `besides`, with a few fields each."""
    shown: list[JSON] = []
    for product_id in product_ids:
        product = hub.public(product_id)
        if product is None or product_id in besides or len(shown) == catalogue.MAX_ALTERNATIVES:
            continue
        data = product_data(product)
        if data["isAvailable"]:
            shown.append({field: data[field] for field in _SUMMARY})
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
    """Returns the limits of a reservation without a token; they do not depend on the stock."""
    settings = state.settings(request)
    return {
        "unitsPerLine": settings.max_units_per_line,
        "unitsPerCart": settings.max_units_per_cart,
        "linesPerCart": inputs.MAX_LINES,
    }
