"""Changes by hand, each with a reason from a fixed list: thin calls of the SQL functions.

Each call is one statement and, on a pool, a transaction of its own: wrap it in `retry`. What
comes back is the changed row as the admin API gives it: a variant's if `variant_id` is given, else
the product's.
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
    """What is changed, why, and by whom. `reason` is one of REASONS; `other` wants a note.
    `expected_version` is the product's; None: whatever it is."""

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


# All raise InvalidRequest, ProductNotFound, VariantNotFound and VersionConflict with the row as it
# is; nothing has changed then.


async def adjust(queries: Queries, adjustment: Adjustment, units: int) -> StockRow:
    """Add units to what is in stock, or take some away. A product whose maximum is the sum of its
    variants' follows its variants. Raises InsufficientStock if so much is not there."""
    return await adjustment._call(queries, "adjust_stock", units)


async def set_stock(queries: Queries, adjustment: Adjustment, stock: int | None) -> StockRow:
    """Make so many units available, whatever is sold and reserved; None: unlimited."""
    return await adjustment._call(queries, "set_stock", stock)


async def change_price(queries: Queries, adjustment: Adjustment, price: int | None) -> StockRow:
    """In cents; None: a variant has its product's."""
    return await adjustment._call(queries, "change_price", price)


async def change_status(queries: Queries, adjustment: Adjustment, status: str) -> StockRow:
    """active, draft or discontinued."""
    return await adjustment._call(queries, "change_status", status)


async def change_threshold(queries: Queries, adjustment: Adjustment, threshold: int) -> StockRow:
    """Stock of so many units or fewer is low."""
    return await adjustment._call(queries, "change_threshold", threshold)
