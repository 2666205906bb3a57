"""Rows of the database as changes, products and variants."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Protocol

from stream_server.streaming.cursor import Snapshot
from stream_server.streaming.products import NO_VARIANTS, Change, Product, Variant

__all__ = ["change_of", "product_of", "variant_of"]


class Row(Protocol):
    """A row, by the names of its columns."""

    def __getitem__(self, name: str, /) -> Any: ...


def change_of(row: Row) -> Change:
    """Reads a row of `read_log.sql`."""
    return Change(
        log_id=row["id"],
        product_id=row["product_id"],
        variant_id=row["variant_id"],
        version=row["version"],
        xid=row["xid"],
        changed_at=row["created_at"],
        name=row["name_after"],
        status=row["status_after"],
        price=row["price_after"],
        max_quantity=row["max_after"],
        sold_quantity=row["sold_after"],
        reserved_quantity=row["reserved_after"],
        low_stock_threshold=row["threshold_after"],
    )


def variant_of(row: Row) -> Variant:
    """Reads a row of `read_variants.sql`."""
    return Variant(
        id=row["id"],
        name=row["variant_value"],
        status=row["status"],
        price=row["price"],
        max_quantity=row["max_quantity"],
        sold_quantity=row["sold_quantity"],
        reserved_quantity=row["reserved_quantity"],
        low_stock_threshold=row["low_stock_threshold"],
        version=row["version"],
    )


def product_of(row: Row, variants: dict[str, Variant] | None, seen: Snapshot) -> Product:
    """Reads a row of `read_products.sql`, and adds the product's variants.

    `seen` is the snapshot in which the row was read. If it does not see the transaction of the
    row's last change, the number comes from another cluster, by a dump: the change counts as old.
    """
    changed_xid = row["changed_xid"]
    return Product(
        id=row["id"],
        name=row["name"],
        status=row["status"],
        price=row["base_price"],
        max_quantity=row["max_quantity"],
        sold_quantity=row["sold_quantity"],
        reserved_quantity=row["reserved_quantity"],
        low_stock_threshold=row["low_stock_threshold"],
        version=row["version"],
        row_version=row["version"],
        changed_xid=changed_xid if seen.sees(changed_xid) else 0,
        updated_at=row["updated_at"],
        published=row["published"],
        variants=MappingProxyType(variants) if variants else NO_VARIANTS,
    )
