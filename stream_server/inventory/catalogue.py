"""What is in the shop, as pages show it: found by words and category, and what to buy instead.

Only what a stream does not carry is read here; live numbers come from whoever follows the stream.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from stream_server.database.pool import Queries, Row
from stream_server.database.queries import query

__all__ = [
    "MOST_ALTERNATIVES",
    "Facts",
    "find_alternatives",
    "find_categories",
    "find_product",
    "find_products",
]

MOST_ALTERNATIVES: Final = 3

FIND_PRODUCTS: Final = query("find_products")
FIND_ALTERNATIVES: Final = query("find_alternatives")


@dataclass(frozen=True, slots=True)
class Facts:
    """What seldom changes about a product that is no draft. `max_per_order` None: any number."""

    id: str
    name: str
    description: str
    category: str
    requires_assembly: bool
    has_variants: bool
    max_per_order: int | None


async def find_products(
    queries: Queries,
    *,
    words: str | None = None,
    category: str | None = None,
    after: str | None = None,
    most: int,
) -> Sequence[Facts]:
    """Products by name, then id, after the one with the id `after`."""
    rows = await queries.fetch_all(
        FIND_PRODUCTS,
        {
            "pattern": None if words is None else f"%{_escaped(words)}%",
            "category": category,
            "after": after,
            "most": most,
        },
    )
    return [Facts(**row) for row in rows]


async def find_product(queries: Queries, product_id: str) -> Facts | None:
    row: Row | None = await queries.fetch_one(
        "select id, name, description, category, requires_assembly, has_variants, max_per_order"
        " from products where id = :id and status <> 'draft'",
        {"id": product_id},
    )
    return None if row is None else Facts(**row)


async def find_categories(queries: Queries) -> list[str]:
    """Categories of products that are no drafts, by name."""
    rows = await queries.fetch_all(
        "select distinct category from products where status <> 'draft' and category <> ''"
        " order by category"
    )
    return [row["category"] for row in rows]


async def find_alternatives(queries: Queries, product_ids: Iterable[str]) -> dict[str, list[str]]:
    """For each product, up to three others that can be bought: of the same category first, then
    those nearest in price (R22). None is among `product_ids` itself."""
    rows = await queries.fetch_all(
        FIND_ALTERNATIVES, {"ids": sorted(set(product_ids)), "most": MOST_ALTERNATIVES}
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["instead_of"], []).append(row["id"])
    return found


def _escaped(words: str) -> str:
    """For LIKE, where these three mean something."""
    return words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
