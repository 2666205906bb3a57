"""A product as the hub knows it, and how a row of the log changes it.

Values are immutable: a change makes a new product, so that the old and the new one can be compared.
Quantities are units, prices are in the smallest unit of the currency, and `xid`s are Postgres
transaction numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

__all__ = ["NO_VARIANTS", "Change", "Product", "ProductEntry", "Variant", "apply_change"]

NO_VARIANTS: Mapping[str, Variant] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant's row. `version` is the product's version at the variant's last change."""

    id: str
    name: str
    status: str
    price: int | None
    max_quantity: int | None
    sold_quantity: int
    reserved_quantity: int
    low_stock_threshold: int
    version: int

    @property
    def available_quantity(self) -> int | None:
        """Units of its own that are left; None: unlimited."""
        return _left(self.max_quantity, self.sold_quantity, self.reserved_quantity)


@dataclass(frozen=True, slots=True)
class Product:
    """A product and its variants, by id.

    `version` counts the changes of the product and its variants; `row_version` is the version at
    the last change of the product's own row.
    """

    id: str
    name: str
    status: str
    price: int
    max_quantity: int | None
    sold_quantity: int
    reserved_quantity: int
    low_stock_threshold: int
    version: int
    row_version: int = field(compare=False)
    changed_xid: int
    updated_at: datetime
    published: bool
    variants: Mapping[str, Variant]

    @property
    def available_quantity(self) -> int | None:
        """Units of its own that are left, without regard to its variants; None: unlimited."""
        return _left(self.max_quantity, self.sold_quantity, self.reserved_quantity)

    @property
    def is_public(self) -> bool:
        """Whether it is not a draft: only staff see drafts."""
        return self.status != "draft"


@dataclass(frozen=True, slots=True)
class Change:
    """A row of inventory_log: a product's or a variant's row as the change left it."""

    log_id: int
    product_id: str
    variant_id: str | None
    version: int
    xid: int
    changed_at: datetime
    name: str
    status: str
    price: int | None
    max_quantity: int | None
    sold_quantity: int
    reserved_quantity: int
    low_stock_threshold: int


class ProductEntry:
    """A product; its JSON and its tag, once somebody has asked for them; and the time before which
    it is not published again. All topics that show it share the string `id`."""

    __slots__ = ("id", "json", "not_before", "product", "tag")

    def __init__(self, product: Product) -> None:
        self.id = product.id
        self.product = product
        self.json: bytes | None = None
        self.tag: str | None = None
        self.not_before = 0.0


def apply_change(product: Product | None, change: Change) -> Product | None:
    """The product after a change, or the same object where the change is not newer.

    None only for a change of a variant whose product is not known: a log is read in order, so
    that happens only where the product's own row has been pruned.
    """
    if change.variant_id is None:
        return _with_row(product, change)
    if product is None:
        return None
    return _with_variant(product, change)


def _with_row(product: Product | None, change: Change) -> Product:
    if product is not None and change.version <= product.row_version:
        return product
    is_newest = product is None or change.version > product.version
    return Product(
        id=change.product_id,
        name=change.name,
        status=change.status,
        price=change.price or 0,
        max_quantity=change.max_quantity,
        sold_quantity=change.sold_quantity,
        reserved_quantity=change.reserved_quantity,
        low_stock_threshold=change.low_stock_threshold,
        version=change.version if product is None or is_newest else product.version,
        row_version=change.version,
        changed_xid=change.xid if product is None or is_newest else product.changed_xid,
        updated_at=change.changed_at if product is None or is_newest else product.updated_at,
        published=change.status != "draft" or (product is not None and product.published),
        variants=NO_VARIANTS if product is None else product.variants,
    )


def _with_variant(product: Product, change: Change) -> Product:
    assert change.variant_id is not None
    known = product.variants.get(change.variant_id)
    if known is not None and change.version <= known.version:
        return product
    variant = Variant(
        id=change.variant_id,
        name=change.name,
        status=change.status,
        price=change.price,
        max_quantity=change.max_quantity,
        sold_quantity=change.sold_quantity,
        reserved_quantity=change.reserved_quantity,
        low_stock_threshold=change.low_stock_threshold,
        version=change.version,
    )
    variants = MappingProxyType({**product.variants, variant.id: variant})
    if change.version < product.version:
        return replace(product, variants=variants)
    return replace(
        product,
        variants=variants,
        version=change.version,
        changed_xid=change.xid,
        updated_at=change.changed_at,
    )


def _left(max_quantity: int | None, sold: int, reserved: int) -> int | None:
    return None if max_quantity is None else max_quantity - sold - reserved
