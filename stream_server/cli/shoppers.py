"""Simulated shoppers and a warehouse, which change the stock of a demo.

They change rows as a shop's backend would, with their own SQL: the product first, then its variant,
in one transaction. Only Postgres tells the streams about the changes.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from stream_server.database.pool import Pool
from stream_server.database.transactions import Queries, in_transaction
from stream_server.errors import StreamServerError

__all__ = ["Shoppers"]

logger = logging.getLogger(__name__)

LIMITED_EDITION: Final = "Unit-8x8x8-Founder"  # never restocked
DELIVERIES: Final = 0.08  # the share of deliveries; the other events are sales

# One row for each variant, or for a product without variants. `left` is NULL if unlimited.
SHELF: Final = """
select p.id as product_id, v.id as variant_id, p.max_per_order,
       least(p.available_quantity, v.available_quantity) as left,
       least(p.available_quantity, v.available_quantity)
           <= least(p.low_stock_threshold, v.low_stock_threshold) as low
  from products p left join variants v on v.product_id = p.id
 where p.status = 'active' and coalesce(v.status, 'active') = 'active'
 order by p.id, v.id
"""
CONTEXT: Final = """
select set_config('stream_server.actor', :actor, true),
       set_config('stream_server.operation', :operation, true)
"""
SALE: Final = """
update {table} set sold_quantity = sold_quantity + :units
 where id = :id and is_available and coalesce(available_quantity >= :units, true)
returning id
"""
DELIVERY: Final = "update {table} set max_quantity = max_quantity + :units where id = :id"

Article = Mapping[str, Any]  # a row of SHELF


class _JustGone(Exception):
    """A failed sale: another buyer took the last unit."""


@dataclass(slots=True)
class Shoppers:
    """Simulated shoppers, who buy at a gentle rate, and a warehouse that restocks low articles."""

    pool: Pool
    rng: random.Random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    per_second: float = 1.5

    async def run(self) -> None:
        """Repeats `act` at random times (a Poisson process) until it is cancelled."""
        while True:
            await self.sleep(self.rng.expovariate(self.per_second))
            try:
                await self.act()
            except StreamServerError as error:
                logger.warning("The shoppers could not buy: %s", error.message)
            except Exception:
                logger.exception("A simulated sale or delivery failed")

    async def act(self) -> bool:
        """Makes one sale or delivery; returns false if there was nothing to buy or to restock."""
        shelf = await self.pool.fetch_all(SHELF)
        if self.rng.random() < DELIVERIES:
            return await self._deliver(shelf)
        return await self._buy(shelf)

    async def _buy(self, shelf: Iterable[Article]) -> bool:
        stocked = [article for article in shelf if article["left"] is None or article["left"] > 0]
        if not stocked:
            return False
        # Choose a product first, so that a product does not sell more often because it has more
        # variants.
        products = [list(group) for _, group in groupby(stocked, lambda row: row["product_id"])]
        article = self.rng.choice(self.rng.choice(products))
        wanted = self.rng.choice((1, 1, 1, 2, 3))
        limits = (wanted, article["left"], article["max_per_order"])
        units = min(limit for limit in limits if limit is not None)

        async def sale(connection: Queries) -> None:
            await connection.execute(CONTEXT, {"actor": "demo-shopper", "operation": "sale"})
            for table, id_ in _rows(article):
                query = SALE.format(table=table)
                if await connection.fetch_val(query, {"id": id_, "units": units}) is None:
                    raise _JustGone

        try:
            await in_transaction(self.pool, sale)
        except _JustGone:
            return False
        return True

    async def _deliver(self, shelf: Iterable[Article]) -> bool:
        wanted = [row for row in shelf if row["low"] and row["product_id"] != LIMITED_EDITION]
        if not wanted:
            return False
        article, units = self.rng.choice(wanted), self.rng.randint(10, 40)

        async def delivery(connection: Queries) -> None:
            await connection.execute(CONTEXT, {"actor": "demo-warehouse", "operation": "restock"})
            for table, id_ in _rows(article):
                await connection.execute(DELIVERY.format(table=table), {"id": id_, "units": units})

        await in_transaction(self.pool, delivery)
        return True


def _rows(article: Article) -> list[tuple[str, str]]:
    """Returns table and id of the rows that a sale of the article changes, in locking order."""
    rows = [("products", article["product_id"])]
    return rows if article["variant_id"] is None else [*rows, ("variants", article["variant_id"])]
