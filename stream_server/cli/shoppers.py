"""Simulated shoppers and a warehouse, so that a demo has something to show.

They change rows as any shop's backend would, with SQL of their own: the product first, then its
variant, in one transaction. Nothing tells the stream about it but Postgres.
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

LIMITED_EDITION: Final = "Unit-8x8x8-Founder"  # there will be no second run
DELIVERIES: Final = 0.08  # of what happens, the part that is a delivery and no sale

# What is in the shop, a row a variant, or one for a product without; `left` NULL: unlimited.
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
    """Somebody else bought the last unit."""


@dataclass(slots=True)
class Shoppers:
    """Buys at a gentle rate, and restocks what runs low, until it is cancelled."""

    pool: Pool
    rng: random.Random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    per_second: float = 1.5

    async def run(self) -> None:
        """One sale or delivery after the other, at random times (a Poisson process)."""
        while True:
            await self.sleep(self.rng.expovariate(self.per_second))
            try:
                await self.act()
            except StreamServerError as error:
                logger.warning("The shoppers could not buy: %s", error.message)
            except Exception:
                logger.exception("The shoppers stumbled")

    async def act(self) -> bool:
        """One sale or delivery; false if there was nothing to buy or to bring."""
        shelf = await self.pool.fetch_all(SHELF)
        if self.rng.random() < DELIVERIES:
            return await self._deliver(shelf)
        return await self._buy(shelf)

    async def _buy(self, shelf: Iterable[Article]) -> bool:
        stocked = [article for article in shelf if article["left"] is None or article["left"] > 0]
        if not stocked:
            return False
        # A product first, so that one of many variants does not sell more often.
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
    """Table and id of the rows that one article moves, in the order in which they are locked."""
    rows = [("products", article["product_id"])]
    return rows if article["variant_id"] is None else [*rows, ("variants", article["variant_id"])]
