"""A cache of the categories and alternatives, for a few seconds: many pages need them at once.

These data seldom change. The caller checks the availability of an alternative in the hub.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from stream_server.database.transactions import Queries
from stream_server.inventory import catalogue

__all__ = ["Shelf"]

KEPT_SECONDS: Final = 2.0
MAX_PRODUCTS: Final = 5_000  # products, for KEPT_SECONDS or until there are more


class Shelf:
    """A cache of the categories and of alternatives to products."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._categories: list[str] | None = None
        self._categories_until = 0.0
        self._alternatives: dict[str, list[str]] = {}
        self._alternatives_until = 0.0

    async def categories(self, queries: Queries) -> list[str]:
        """Returns the categories of all products except drafts, in the order of names."""
        if self._categories is None or self._clock() >= self._categories_until:
            self._categories = await catalogue.find_categories(queries)
            self._categories_until = self._clock() + KEPT_SECONDS
        return self._categories

    async def alternatives(
        self, queries: Queries, product_ids: Sequence[str]
    ) -> dict[str, list[str]]:
        """Returns ids of alternatives to each product, the best first; some may have sold out."""
        kept = self._alternatives
        if self._clock() >= self._alternatives_until or len(kept) >= MAX_PRODUCTS:
            kept = self._alternatives = {}
            self._alternatives_until = self._clock() + KEPT_SECONDS
        if unknown := [each for each in product_ids if each not in kept]:
            found = await catalogue.find_alternatives(queries, unknown)
            kept.update({each: found.get(each, []) for each in unknown})
        return {each: kept[each] for each in product_ids}
