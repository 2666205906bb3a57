"""Orders (R21): thin calls of the SQL functions, which do the work.

Each call is one statement and, on a pool, a transaction of its own: wrap it in `retried`. In a
transaction it takes part in that. What comes back is the order as the API gives it.
"""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypedDict

from stream_server.database.pool import Queries
from stream_server.errors import OrderNotFound
from stream_server.inventory.reservations import CartLine

__all__ = ["Order", "OrderLine", "cancel", "complete", "find", "find_by_payment", "prune", "refund"]


class OrderLine(TypedDict):
    """Units ordered, and how many of them are sold to the order; `unitPrice` in cents."""

    productId: str
    variantId: str | None
    quantity: int
    filledQuantity: int
    unitPrice: int


class Order(TypedDict):
    """`status` is paid, shortfall, refunded or cancelled."""

    orderId: int
    status: str
    paymentReference: str | None
    createdAt: str
    updatedAt: str
    lines: list[OrderLine]


async def complete(
    queries: Queries,
    *,
    reservation_token: str | None = None,
    lines: Sequence[CartLine] | None = None,
    payment_reference: str | None = None,
    record_shortfall: bool = False,
    actor: str | None = None,
) -> Order:
    """Sell what a reservation holds, or `lines` directly; once for a reservation, and once for a
    payment. A reservation that has ended is taken from stock again.

    `record_shortfall`: where there is too little, take what there is and raise an alert, because
    the money has come already.

    Raises InsufficientStock, ReservationNotFound, OrderConflict (payment, reservation and lines
    don't belong together), and for `lines` what `reserve` raises; nothing has changed then.
    """
    order: Order = await _json(
        queries,
        "select complete_order(:reservation, cast(:cart as jsonb), :payment, :record_shortfall,"
        " :actor)",
        reservation=reservation_token,
        cart=None if lines is None else json.dumps(lines),
        payment=payment_reference,
        record_shortfall=record_shortfall,
        actor=actor,
    )
    return order


async def cancel(queries: Queries, order_id: int, *, actor: str | None = None) -> Order:
    """Give back what the order took, once. Raises OrderNotFound, OrderConflict if refunded."""
    order: Order = await _json(
        queries, "select cancel_order(:id, :actor)", id=order_id, actor=actor
    )
    return order


async def refund(
    queries: Queries, order_id: int, *, restock: bool = True, actor: str | None = None
) -> Order:
    """Mark it as refunded and, unless the goods are lost, give back what it took, once.

    Raises OrderNotFound.
    """
    order: Order = await _json(
        queries,
        "select refund_order(:id, :restock, :actor)",
        id=order_id,
        restock=restock,
        actor=actor,
    )
    return order


async def find(queries: Queries, order_id: int) -> Order:
    """Raises OrderNotFound."""
    order: Order | None = await _json(queries, "select order_data(:id)", id=order_id)
    if order is None:
        raise OrderNotFound(order_id)
    return order


async def find_by_payment(queries: Queries, payment_reference: str) -> int | None:
    """The id of the order that a payment has completed."""
    order_id: int | None = await queries.fetch_val(
        "select id from orders where payment_reference = :payment", {"payment": payment_reference}
    )
    return order_id


async def prune(queries: Queries, *, older_than: timedelta, most: int) -> int:
    """Forget orders that were last changed so long ago and have no shortfall, so many at most; how
    many."""
    pruned: int = await queries.fetch_val(
        "select prune_orders(:older_than, :most)", {"older_than": older_than, "most": most}
    )
    return pruned


async def _json(queries: Queries, query: str, **values: object) -> Any:  # the caller's type
    found = await queries.fetch_val(query, values)
    return None if found is None else json.loads(found)
