"""The catalogue for pages: search by words and category, and alternatives to a product.

It reads only data that streams do not carry. Live numbers come from the hub, which follows the log.
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
SPARE_ALTERNATIVES: Final = 5  # to replace those that have sold out or are in the same cart
MAX_WORDS: Final = 8  # of a search; each word costs a read of all products that contain it
MIN_PREFIX_BYTES: Final = 3  # shorter prefixes begin too many words, so they match whole words only
SIGNS: Final = str.maketrans("-_./@:<>&+~'\\", " " * 13)  # as in the index, and tsquery's signs


@dataclass(frozen=True, slots=True)
class ProductDetails:
    """The data of a product that seldom change. `max_per_order` None: no limit."""

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
    """Returns products in the order of name and id, from after the id `after` on.

    Each of the words begins, or is, a word of the product's id, name, category or description. Only
    the first eight words count.
    """
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
    """Returns a product; None if it does not exist or is a draft."""
    row: Row | None = await queries.fetch_one(
        "select id, name, description, category, requires_assembly, has_variants, max_per_order"
        " from products where id = :id and status <> 'draft'",
        {"id": product_id},
    )
    return None if row is None else ProductDetails(**row)


async def find_categories(queries: Queries) -> list[str]:
    """Returns the categories of all products except drafts, in the order of names."""
    rows = await queries.fetch_all(
        "select distinct category from products where status <> 'draft' and category <> ''"
        " order by category"
    )
    return [row["category"] for row in rows]


async def find_alternatives(queries: Queries, product_ids: Iterable[str]) -> dict[str, list[str]]:
    """Returns ids of other products that can be bought, for each product: those of the same
    category first, then those nearest in price."""
    rows = await queries.fetch_all(
        "select * from find_alternatives(cast(:ids as text[]), :max_count)",
        {"ids": sorted(set(product_ids)), "max_count": MAX_ALTERNATIVES + SPARE_ALTERNATIVES},
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["instead_of"], []).append(row["id"])
    return found


def tsquery(words: str) -> str:
    """Returns a search for all of the words, in the syntax of `to_tsquery`. Without words, the
    search finds nothing."""
    terms = [
        f"'{word}':*" if len(word.encode()) >= MIN_PREFIX_BYTES else f"'{word}'"
        for word in words.translate(SIGNS).split()[:MAX_WORDS]
    ]
    return " & ".join(terms)
