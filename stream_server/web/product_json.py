"""The JSON of a product, in answers to polls and on streams.

Quantities are in units, prices in cents, times in ISO 8601 and UTC. `availableQuantity` and `stock`
are the effective numbers: the units that can really be bought.
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

JSON = dict[str, Any]  # nested to any depth


class PublicEncoder:
    """The hub's Encoder for the public."""

    def product(self, product: Product) -> bytes:
        # The hub keeps this, so it is a copy: the bytes of orjson have kilobytes of spare memory.
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
    """Returns a product with its variants; without variants, there is no field `variants`."""
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
    """Returns the data of `inventory_updated` for the product, or for one of its variants.

    `version` is always the product's. A client keeps the data with the higher version.
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
    """Returns ISO 8601 in UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def optional_timestamp(at: datetime | None) -> str | None:
    """Returns the timestamp, or None."""
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
    """Returns the variants in the order of their ids, so that all processes send the same bytes."""
    public = [variant for variant in product.variants.values() if variant.status != "draft"]
    return sorted(public, key=lambda variant: variant.id)
