"""Adjustments by hand, each with a reason from a fixed list: thin calls of SQL functions.

Each call is one statement and, on a pool, a transaction of its own: wrap it in `retry`. It returns
the changed row as the admin API gives it: the variant's if `variant_id` is given, else the
product's.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from stream_server.database.transactions import Queries

__all__ = [
    "REASONS",
    "Adjustment",
    "adjust",
    "change_price",
    "change_status",
    "change_threshold",
    "set_stock",
]

REASONS: Final = (
    "correction",
    "count",
    "received",
    "return",
    "damaged",
    "theft_or_loss",
    "promotion",
    "other",
)
StockRow = dict[str, Any]  # as JSON


@dataclass(frozen=True, slots=True)
class Adjustment:
    """The target, the reason and the actor of an adjustment. `reason` is one of REASONS; `other`
    needs a note. `expected_version` is the product's version; None: any."""

    product_id: str
    variant_id: str | None
    reason: str
    note: str | None = None
    expected_version: int | None = None
    actor: str | None = None

    async def _call(self, queries: Queries, function: str, value: object) -> StockRow:
        row: StockRow = json.loads(
            await queries.fetch_val(
                f"select {function}(:product, :variant, :value, :reason, :note, :version, :actor)",
                {
                    "product": self.product_id,
                    "variant": self.variant_id,
                    "value": value,
                    "reason": self.reason,
                    "note": self.note,
                    "version": self.expected_version,
                    "actor": self.actor,
                },
            )
        )
        return row


# All of these raise InvalidRequest, ProductNotFound, VariantNotFound, and VersionConflict with the
# present row. After an error, nothing has changed.


async def adjust(queries: Queries, adjustment: Adjustment, units: int) -> StockRow:
    """Adds units to the stock, or removes them if `units` is negative. A product whose maximum is
    the sum of its variants' maxima follows them.

    Raises InsufficientStock if fewer units are there.
    """
    return await adjustment._call(queries, "adjust_stock", units)


async def set_stock(queries: Queries, adjustment: Adjustment, stock: int | None) -> StockRow:
    """Makes `stock` units available besides those sold and reserved; None: unlimited."""
    return await adjustment._call(queries, "set_stock", stock)


async def change_price(queries: Queries, adjustment: Adjustment, price: int | None) -> StockRow:
    """Sets the price in the currency's smallest unit; None: a variant gets its product's."""
    return await adjustment._call(queries, "change_price", price)


async def change_status(queries: Queries, adjustment: Adjustment, status: str) -> StockRow:
    """Sets the status: active, draft or discontinued."""
    return await adjustment._call(queries, "change_status", status)


async def change_threshold(queries: Queries, adjustment: Adjustment, threshold: int) -> StockRow:
    """Sets the number of units at or below which stock is low."""
    return await adjustment._call(queries, "change_threshold", threshold)
