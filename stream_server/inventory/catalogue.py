"""What is in the shop, as pages show it: found by words and category, and what to buy instead.

Only what a stream does not carry is read here; live numbers come from whoever follows the stream.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from stream_server.database.transactions import Queries, Row

__all__ = [
    "MAX_ALTERNATIVES",
    "ProductDetails",
    "find_alternatives",
    "find_categories",
    "find_product",
    "find_products",
]

MAX_ALTERNATIVES: Final = 3
SPARE_ALTERNATIVES: Final = 5  # for those that are sold out by now, or in the same cart
MAX_WORDS: Final = 8  # of a search; each costs a look at all products that have it
MIN_PREFIX_BYTES: Final = 3  # bytes; shorter ones begin so many words that only whole ones count
SIGNS: Final = str.maketrans("-_./@:<>&+~'\\", " " * 13)  # as in the index; and those of a tsquery


@dataclass(frozen=True, slots=True)
class ProductDetails:
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
    max_count: int,
) -> Sequence[ProductDetails]:
    """Products by name, then id, after the one with the id `after`. The words stand in their id,
    name, category or description, whole or as the beginning of one; the first eight count."""
    rows = await queries.fetch_all(
        "select * from find_products(:words, :category, :after, :max_count)",
        {
            "words": None if words is None else tsquery(words),
            "category": category,
            "after": after,
            "max_count": max_count,
        },
    )
    return [ProductDetails(**row) for row in rows]


async def find_product(queries: Queries, product_id: str) -> ProductDetails | None:
    row: Row | None = await queries.fetch_one(
        "select id, name, description, category, requires_assembly, has_variants, max_per_order"
        " from products where id = :id and status <> 'draft'",
        {"id": product_id},
    )
    return None if row is None else ProductDetails(**row)


async def find_categories(queries: Queries) -> list[str]:
    """Categories of products that are no drafts, by name."""
    rows = await queries.fetch_all(
        "select distinct category from products where status <> 'draft' and category <> ''"
        " order by category"
    )
    return [row["category"] for row in rows]


async def find_alternatives(queries: Queries, product_ids: Iterable[str]) -> dict[str, list[str]]:
    """For each product, some others that can be bought: of the same category first, then those
    nearest in price."""
    rows = await queries.fetch_all(
        "select * from find_alternatives(cast(:ids as text[]), :max_count)",
        {"ids": sorted(set(product_ids)), "max_count": MAX_ALTERNATIVES + SPARE_ALTERNATIVES},
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["instead_of"], []).append(row["id"])
    return found


def tsquery(words: str) -> str:
    """All of the words, in the syntax of `to_tsquery`; one without any finds nothing."""
    terms = [
        f"'{word}':*" if len(word.encode()) >= MIN_PREFIX_BYTES else f"'{word}'"
        for word in words.translate(SIGNS).split()[:MAX_WORDS]
    ]
    return " & ".join(terms)
