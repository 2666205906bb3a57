"""Alerts for operators: low and sold out stock, paid orders that could not be filled, payments
without an order, counts that cannot be right, external systems that are late.

The database opens and closes alerts when a state changes (`turn_alerts.sql` and `raise_alert.sql`
in `sql/functions/alerts/`), so that they cover every writer. This module reads and acknowledges
them, and opens and closes alerts of payments.
"""

from collections.abc import Sequence
from typing import Final

from stream_server.database.pool import AnyPool
from stream_server.database.transactions import Queries, Row, in_transaction
from stream_server.errors import AlertNotFound

__all__ = [
    "LEVELS",
    "STATES",
    "acknowledge",
    "close_payment",
    "list_alerts",
    "open_failed_payment",
    "open_unplaced_payment",
]

LEVELS: Final = ("low", "out", "back", "shortfall", "payment", "sync", "lag")
LAST: Final = 2**63 - 1  # bigint
STATES: Final = ("open", "new", "closed", "all")  # new: open and not acknowledged

ALERT: Final = """
select a.id, a.product_id, a.variant_id, a.source, a.level, a.message, a.opened_at, a.closed_at,
       a.acknowledged_at, a.acknowledged_by, p.name as product_name, v.variant_value, v.sku,
       case when a.variant_id is null then p.available_quantity else v.available_quantity end
           as available
  from {alerts} a
  left join products p on p.id = a.product_id
  left join variants v on v.id = a.variant_id
"""


async def list_alerts(
    queries: Queries,
    *,
    state: str = "open",
    levels: Sequence[str] = LEVELS,
    before: int = LAST,
    limit: int = 100,
) -> list[Row]:
    """Returns alerts, the newest first, with the present available units of the row itself.
    `before` is the id of the last alert on the previous page."""
    return await queries.fetch_all(
        ALERT.format(alerts="stock_alerts")
        + """
         where (:state = 'all' or (a.closed_at is null) = (:state <> 'closed'))
           and (:state <> 'new' or a.acknowledged_at is null)
           and a.level = any (cast(:levels as text[]))
           and a.id < cast(:before as bigint)
         order by a.id desc
         limit :limit
        """,
        {"state": state, "levels": list(levels), "before": before, "limit": limit},
    )


async def open_unplaced_payment(queries: Queries, reference: str, reason: str) -> None:
    """Opens the alert of a payment without an order, or updates its reason."""
    await queries.execute(
        "select raise_alert(null, null, 'payment', :message, :reference)",
        {"reference": reference, "message": f"{reference} is paid, but {reason}"},
    )


async def open_failed_payment(queries: Queries, source: str, message: str) -> None:
    """Opens the alert of a payment whose report ended in an error. `source` is the event, or the
    payment of an order that could not be placed."""
    await queries.execute(
        "select raise_alert(null, null, 'payment', :message, :source)",
        {"source": source, "message": message},
    )


async def close_payment(queries: Queries, source: str) -> None:
    """Closes the alert of a payment if it is open."""
    await queries.execute("select close_alert(null, null, 'payment', :source)", {"source": source})


async def acknowledge(pool: AnyPool, alert_id: int, actor: str) -> Row:
    """Records that `actor` has seen the alert, unless it was acknowledged before. Returns the
    present alert.

    Raises AlertNotFound.
    """

    async def work(connection: Queries) -> Row | None:
        return await connection.fetch_one(
            ALERT.format(alerts="acknowledge_alert(:id, :actor)"),
            {"id": alert_id, "actor": actor},
        )

    alert = await in_transaction(pool, work)
    if alert is None:
        raise AlertNotFound(alert_id)
    return alert
