"""How a product looks in JSON, to pollers and on streams.

Field names are the wire's. Quantities are units, prices cents, times ISO 8601 in UTC.
`availableQuantity` and `stock` are the effective numbers: what can really be had.
"""

from collections.abc import Hashable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from stream_server.inventory import rules
from stream_server.streaming.products import Product, Variant

__all__ = [
    "JSON",
    "PublicEncoder",
    "optional_timestamp",
    "product_data",
    "timestamp",
    "update_data",
]

JSON = dict[str, Any]  # as deep as the API wants it


class PublicEncoder:
    """The hub's Encoder for everybody."""

    def product(self, product: Product) -> bytes:
        # A copy, for this is kept: what orjson gives has kilobytes of room behind it.
        return bytes(memoryview(orjson.dumps(product_data(product))))

    def variants(self, product: Product) -> Mapping[str, Hashable]:
        return {
            variant.id: tuple(_variant_stock(product, variant).values())
            for variant in _public_variants(product)
        }

    def update(self, product: Product, variant_id: str | None) -> bytes:
        return orjson.dumps(update_data(product, variant_id))

    def status(self, product: Product) -> bytes:
        return orjson.dumps(
            {
                "productId": product.id,
                "status": product.status,
                "timestamp": timestamp(product.updated_at),
            }
        )


def product_data(product: Product) -> JSON:
    """A product with its variants; `variants` only if it has any."""
    data = {
        "productId": product.id,
        "name": product.name,
        **_product_stock(product),
        "lowStockThreshold": product.low_stock_threshold,
        "version": product.version,
        "updatedAt": timestamp(product.updated_at),
    }
    if product.variants:
        data["variants"] = [
            {
                "variantId": variant.id,
                "variantValue": variant.name,
                **_variant_stock(product, variant),
                "lowStockThreshold": variant.low_stock_threshold,
            }
            for variant in _public_variants(product)
        ]
    return data


def update_data(product: Product, variant_id: str | None) -> JSON:
    """What `inventory_updated` says of the product, or of one of its variants.

    `version` is the product's: a reader keeps what has the higher one.
    """
    stock = (
        _product_stock(product)
        if variant_id is None
        else _variant_stock(product, product.variants[variant_id])
    )
    return {
        "productId": product.id,
        "variantId": variant_id,
        **stock,
        "timestamp": timestamp(product.updated_at),
        "version": product.version,
    }


def timestamp(at: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def optional_timestamp(at: datetime | None) -> str | None:
    """The same, or null."""
    return None if at is None else timestamp(at)


def _product_stock(product: Product) -> JSON:
    available = rules.product_available(product, product.variants.values() or None)
    return _stock(
        product,
        available,
        rules.is_available(available, product.status),
        product.status,
        product.price,
    )


def _variant_stock(product: Product, variant: Variant) -> JSON:
    available = rules.variant_available(product, variant)
    return _stock(
        variant,
        available,
        rules.is_available(available, variant.status, product.status),
        variant.status,
        product.price if variant.price is None else variant.price,
    )


def _stock(
    row: Product | Variant, available: int | None, is_available: bool, status: str, price: int
) -> JSON:
    return {
        "maxQuantity": row.max_quantity,
        "soldQuantity": row.sold_quantity,
        "availableQuantity": available,
        "isAvailable": is_available,
        "stock": available,
        "status": status,
        "price": price,
        "isLowStock": is_available and rules.is_low_stock(available, row.low_stock_threshold),
        "stockMessage": rules.stock_message(available, is_available, row.low_stock_threshold),
    }


def _public_variants(product: Product) -> list[Variant]:
    """In the order of their ids, so that every process gives the same bytes."""
    public = [variant for variant in product.variants.values() if variant.status != "draft"]
    return sorted(public, key=lambda variant: variant.id)
