"""What somebody should look at: low and sold out stock, paid orders that could not be filled,
payments without an order, counts that cannot be right, sources that are late.

Alerts are opened and closed in the database, by transitions (`turn_alerts.sql` and
`raise_alert.sql` in `sql/functions/alerts/`), so that every writer counts. Here they are read and
acknowledged.
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
STATES: Final = ("open", "new", "closed", "all")  # new: open, and nobody has acknowledged it

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
    """The newest alerts first, with the row's own available units as they are now; `before` is the
    id of the last one on the page before."""
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
    """Open the alert of a payment that became no order, or give it this reason."""
    await queries.execute(
        "select raise_alert(null, null, 'payment', :message, :reference)",
        {"reference": reference, "message": f"{reference} is paid, but {reason}"},
    )


async def open_failed_payment(queries: Queries, source: str, message: str) -> None:
    """Open the alert of a report of a payment that ended in an error: `source` is the event, or the
    payment of an order that could not be made."""
    await queries.execute(
        "select raise_alert(null, null, 'payment', :message, :source)",
        {"source": source, "message": message},
    )


async def close_payment(queries: Queries, source: str) -> None:
    """Close the alert of a payment, if there is one."""
    await queries.execute("select close_alert(null, null, 'payment', :source)", {"source": source})


async def acknowledge(pool: AnyPool, alert_id: int, actor: str) -> Row:
    """Note that `actor` has seen the alert, unless somebody had before; the alert as it is now.

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
