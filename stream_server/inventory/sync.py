"""What external systems count, late or out of order as it may come (R24).

The rules are in `sql/functions/apply_counts.sql`; a count is of all units that lay there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from stream_server.database.pool import Pool, Queries, Row, in_transaction

__all__ = ["Count", "apply_counts", "check_lag", "lags"]


@dataclass(frozen=True, slots=True)
class Count:
    """`count` units of a product, or of one of its variants."""

    product_id: str
    variant_id: str | None
    count: int


async def apply_counts(
    pool: Pool, *, source: str, occurred_at: datetime, counts: Sequence[Count], actor: str
) -> list[Row]:
    """What became of each count; their order is that of ids. One transaction.

    Raises InvalidRequest for a time in the future.
    """
    lines: list[dict[str, Any]] = [  # JSON
        {"productId": each.product_id, "variantId": each.variant_id, "count": each.count}
        for each in counts
    ]

    async def work(connection: Queries) -> list[Row]:
        return await connection.fetch_all(
            "select * from apply_counts(:source, :occurred_at, cast(:counts as jsonb), :actor)",
            {
                "source": source,
                "occurred_at": occurred_at,
                "counts": json.dumps(lines),
                "actor": actor,
            },
        )

    return await in_transaction(pool, work)


async def lags(queries: Queries) -> dict[str, float]:
    """How old the newest count of each source is, in seconds."""
    rows = await queries.fetch_all(
        "select source, greatest(extract(epoch from clock_timestamp() - last_occurred_at), 0)"
        " as lag from sync_state order by source"
    )
    return {row["source"]: float(row["lag"]) for row in rows}


async def check_lag(queries: Queries, limit: timedelta) -> dict[str, float]:
    """As `lags`; opens and closes the alerts of sources that are past the limit, or past their
    own. Wants a transaction."""
    rows = await queries.fetch_all(
        "select source, extract(epoch from lag) as lag from check_sync_lag(:limit)",
        {"limit": limit},
    )
    return {row["source"]: float(row["lag"]) for row in rows}
