"""What a shop's pages need of products: facts from the database, numbers from the hub (R19)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.requests import Request
from starlette.responses import Response

from stream_server.database.pool import Pool
from stream_server.errors import InsufficientStock, ProductNotFound
from stream_server.inventory import catalogue
from stream_server.inventory.catalogue import Facts
from stream_server.streaming.frames import to_json
from stream_server.streaming.hub import Hub
from stream_server.streaming.state import Product
from stream_server.web import inputs
from stream_server.web.compression import compressing
from stream_server.web.envelope import success
from stream_server.web.inventory import loaded_hub
from stream_server.web.representation import JSON, product_data
from stream_server.web.routing import Resource

__all__ = ["product_routes", "with_alternatives"]

_BRIEFLY = ("productId", "name", "price", "availableQuantity", "stock", "stockMessage")


def product_routes() -> list[Resource]:
    """The routes of products. They find hub and pool in `request.app.state`."""
    return [
        Resource("/api/products", GET=compressing(_find_several)),
        Resource("/api/products/{product_id}", GET=compressing(_get_one)),
        Resource("/api/products/{product_id}/alternatives", GET=compressing(_get_alternatives)),
    ]


async def _find_several(request: Request) -> Response:
    """`?q=` words, `?category=`, `?limit=` 1 to 200, `?after=` the `next` of the page before."""
    hub = loaded_hub(request)
    query = request.query_params
    limit = int(inputs.number_in_query(request, "limit", default=50, lowest=1, highest=200))
    found = await catalogue.find_products(
        _pool(request),
        words=inputs.optional_text(query.get("q") or None, "q"),
        category=inputs.optional_text(query.get("category") or None, "category"),
        after=inputs.optional_text(query.get("after") or None, "after"),
        most=limit + 1,
    )
    following = found[limit - 1].id if len(found) > limit else None
    products = [
        _product_with_facts(product, facts)
        for facts in found[:limit]
        if (product := hub.public(facts.id)) is not None
    ]
    return success(to_json(products), beside={"next": following})


async def _get_one(request: Request) -> Response:
    hub = loaded_hub(request)
    product_id = request.path_params["product_id"]
    product = hub.public(product_id)
    if product is None:
        raise ProductNotFound(product_id)
    facts = await catalogue.find_product(_pool(request), product_id)
    if facts is None:
        raise ProductNotFound(product_id)
    return success(to_json(_product_with_facts(product, facts)))


async def _get_alternatives(request: Request) -> Response:
    hub = loaded_hub(request)
    product_id = request.path_params["product_id"]
    if hub.public(product_id) is None:
        raise ProductNotFound(product_id)
    found = await catalogue.find_alternatives(_pool(request), [product_id])
    return success(to_json(_briefly(hub, found.get(product_id, ()))))


async def with_alternatives(request: Request, error: InsufficientStock) -> InsufficientStock:
    """The same refusal; each line of which there is too little says what could be bought instead:
    at most three that are in stock, of the same category first, nearest in price."""
    hub: Hub = request.app.state.hub
    short = {str(line["productId"]) for line in error.lines if _is_short(line)}
    found = await catalogue.find_alternatives(_pool(request), short)
    return InsufficientStock(
        [
            {
                **line,
                "alternatives": _briefly(hub, found.get(str(line["productId"]), ()))
                if _is_short(line)
                else [],
            }
            for line in error.lines
        ]
    )


def _is_short(line: object) -> bool:
    assert isinstance(line, dict)
    return bool(line["available"] < line["requested"])


def _briefly(hub: Hub, product_ids: Iterable[str]) -> Sequence[JSON]:
    shown = []
    for product_id in product_ids:
        product = hub.public(product_id)
        if product is not None and (data := product_data(product))["isAvailable"]:
            shown.append({field: data[field] for field in _BRIEFLY})
    return shown


def _product_with_facts(product: Product, facts: Facts) -> JSON:
    return {
        **product_data(product),
        "description": facts.description,
        "category": facts.category,
        "requiresAssembly": facts.requires_assembly,
        "hasVariants": facts.has_variants,
        "maxPerOrder": facts.max_per_order,
    }


def _pool(request: Request) -> Pool:
    pool: Pool = request.app.state.pool
    return pool
