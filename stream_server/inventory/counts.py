"""Counts of stock from external systems, which may arrive late or out of order.

The rules are in `sql/functions/counts/apply_counts.sql`. A count includes all units on the shelf.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from stream_server.database.pool import AnyPool
from stream_server.database.transactions import Queries, Row, retry

__all__ = ["Count", "apply_counts", "check_lag", "read_lags"]


@dataclass(frozen=True, slots=True)
class Count:
    """A count of units of a product or of one of its variants. `sold_on_shelf` of them are sold
    already, but still on the shelf."""

    product_id: str
    variant_id: str | None
    count: int
    sold_on_shelf: int | None = None


async def apply_counts(
    pool: AnyPool, *, source: str, occurred_at: datetime, counts: Sequence[Count], actor: str
) -> list[Row]:
    """Applies the counts in one transaction; returns the result of each, in the order of ids.

    Raises InvalidRequest for a time in the future, for a count out of bounds, and for a new source
    if there are too many sources.
    """
    lines: list[dict[str, Any]] = [  # JSON
        {
            "productId": each.product_id,
            "variantId": each.variant_id,
            "count": each.count,
            "soldOnShelf": each.sold_on_shelf,
        }
        for each in counts
    ]

    async def report() -> list[Row]:
        return await pool.fetch_all(
            "select * from apply_counts(:source, :occurred_at, cast(:counts as jsonb), :actor)",
            {
                "source": source,
                "occurred_at": occurred_at,
                "counts": json.dumps(lines),
                "actor": actor,
            },
        )

    return await retry(report)


async def check_lag(queries: Queries, limit: timedelta) -> None:
    """Opens and closes the alerts of sources whose newest count is older than `limit`, or than
    their own limit. Must run in a transaction."""
    await queries.execute("select check_sync_lag(:limit)", {"limit": limit})


async def read_lags(queries: Queries) -> dict[str, float]:
    """Returns the age in seconds of each source's newest count."""
    rows = await queries.fetch_all(
        "select source, extract(epoch from clock_timestamp() - last_occurred_at) as lag"
        " from sync_state"
    )
    return {row["source"]: max(0.0, float(row["lag"])) for row in rows}
