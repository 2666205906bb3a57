"""Orders: thin calls of the SQL functions that do the work.

Each call is one statement. On a pool, it is a transaction of its own: wrap it in `retry`. In a
transaction, it is a part of that. It returns the order as the API gives it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypedDict

from stream_server.database.transactions import Queries
from stream_server.errors import OrderNotFound
from stream_server.inventory.reservations import CartLine

__all__ = [
    "Order",
    "OrderLine",
    "Payment",
    "Reversal",
    "cancel",
    "complete",
    "find",
    "find_by_payment",
    "is_refunded",
    "prune",
    "record_payment",
    "record_reversal",
    "refund",
]


class OrderLine(TypedDict):
    """A line of an order: the units ordered, those that were filled, and those refunded."""

    productId: str
    variantId: str | None
    quantity: int
    filledQuantity: int
    refundedQuantity: int
    unitPrice: int


class Order(TypedDict):
    """An order. `status` is paid, shortfall, refunded or cancelled. Money is in the currency's
    smallest unit: `total` is the price of the units, `amount` the sum paid, None if unknown."""

    orderId: int
    status: str
    paymentReference: str | None
    total: int
    amount: int | None
    currency: str | None
    refundedAmount: int
    createdAt: str
    updatedAt: str
    lines: list[OrderLine]


@dataclass(frozen=True, slots=True)
class Payment:
    """The sum paid for an order, in the smallest unit of a currency (ISO 4217). `goods` is the part
    for the order's units before discounts; None: the whole sum."""

    amount: int
    currency: str | None = None
    goods: int | None = None


@dataclass(frozen=True, slots=True)
class Reversal:
    """A provider's report of a refund, of the sum of a charge's refunds, or of a dispute, with its
    state at the time `at`; see `sql/functions/payments/record_reversal.sql`."""

    id: str
    payment: str
    kind: str
    status: str
    at: datetime
    amount: int | None = None
    currency: str | None = None
    is_all: bool = False
    restock: bool = False
    lines: Sequence[CartLine] | None = None
    reason: str | None = None


class Settlement(TypedDict):
    """The result of a reversal: the payment's order, if it has one; whether the payment is known;
    and the kinds of new alerts: refund_failed, dispute, dispute_lost."""

    orderId: int | None
    orderStatus: str | None
    isOurs: bool
    news: list[str]


async def complete(
    queries: Queries,
    *,
    reservation_token: str | None = None,
    lines: Sequence[CartLine] | None = None,
    payment_reference: str | None = None,
    record_shortfall: bool = False,
    actor: str | None = None,
) -> Order:
    """Places an order for the units of a reservation, or for `lines` directly: only once for each
    reservation and for each payment. If the reservation has ended, takes its units from stock
    again.

    With `record_shortfall`, an order that lacks stock takes the available units and opens an alert,
    because the customer has paid already.

    Raises InsufficientStock, ReservationNotFound, OrderConflict (payment, reservation and lines
    contradict each other), and for `lines` the errors of `reserve`. After an error, nothing has
    changed.
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
    """Cancels the order and puts its units back on sale, once.

    Raises OrderNotFound, and OrderConflict if the order was refunded.
    """
    order: Order = await _json(
        queries, "select cancel_order(:id, :actor)", id=order_id, actor=actor
    )
    return order


async def refund(
    queries: Queries,
    order_id: int,
    *,
    restock: bool = True,
    lines: Sequence[CartLine] | None = None,
    amount: int | None = None,
    reference: str | None = None,
    actor: str | None = None,
) -> Order:
    """Records a refund: of the whole rest of the order, of the units in `lines`, or of an amount.
    `restock` puts the units back on sale. `reference` names the provider's refund, which counts
    once.

    Raises OrderNotFound, InvalidRequest for more than the rest of the order, and OrderConflict for
    another order's refund, or for a part of an order that is already refunded.
    """
    order: Order = await _json(
        queries,
        "select refund_order(:id, :restock, :actor, cast(:lines as jsonb), :amount, :reference)",
        id=order_id,
        restock=restock,
        actor=actor,
        lines=None if lines is None else json.dumps(lines),
        amount=amount,
        reference=reference,
    )
    return order


async def record_payment(queries: Queries, order_id: int, paid: Payment, *, currency: str) -> bool:
    """Records the payment of an order. Returns whether its sum differs from the order's total, or
    its currency from the shop's `currency`; that opens an alert.

    Raises OrderNotFound.
    """
    differs: bool = await queries.fetch_val(
        "select record_payment(:id, :amount, :paid_in, :goods, :currency)",
        {
            "id": order_id,
            "amount": paid.amount,
            "paid_in": paid.currency,
            "goods": paid.goods,
            "currency": currency,
        },
    )
    return differs


async def record_reversal(queries: Queries, reversal: Reversal, *, actor: str) -> Settlement:
    """Records a provider's report of a refund or dispute, and updates order, stock and alerts."""
    lines = None if reversal.lines is None else json.dumps(reversal.lines)
    settled: Settlement = await _json(
        queries,
        "select record_reversal(:id, :payment, :kind, :status, :at, :amount, :currency, :is_all,"
        " :restock, cast(:lines as jsonb), :reason, :actor)",
        id=reversal.id,
        payment=reversal.payment,
        kind=reversal.kind,
        status=reversal.status,
        at=reversal.at,
        amount=reversal.amount,
        currency=reversal.currency,
        is_all=reversal.is_all,
        restock=reversal.restock,
        lines=lines,
        reason=reversal.reason,
        actor=actor,
    )
    return settled


async def is_refunded(queries: Queries, payment_reference: str) -> bool:
    """Returns whether the provider has reported that the whole payment was refunded."""
    found: bool = await queries.fetch_val(
        "select is_all_refunded(:payment,"
        " (select id from orders where payment_reference = :payment))",
        {"payment": payment_reference},
    )
    return found


async def find(queries: Queries, order_id: int) -> Order:
    """Returns the order. Raises OrderNotFound."""
    order: Order | None = await _json(queries, "select order_data(:id)", id=order_id)
    if order is None:
        raise OrderNotFound(order_id)
    return order


async def find_by_payment(queries: Queries, payment_reference: str) -> int | None:
    """Returns the id of a payment's order; None if it has none."""
    order_id: int | None = await queries.fetch_val(
        "select id from orders where payment_reference = :payment", {"payment": payment_reference}
    )
    return order_id


async def prune(queries: Queries, *, older_than: timedelta, max_count: int) -> int:
    """Deletes at most `max_count` orders without a shortfall whose last change is older than
    `older_than`; returns their number."""
    pruned: int = await queries.fetch_val(
        "select prune_orders(:older_than, :max_count)",
        {"older_than": older_than, "max_count": max_count},
    )
    return pruned


async def _json(queries: Queries, query: str, **values: object) -> Any:  # the caller's type
    found = await queries.fetch_val(query, values)
    return None if found is None else json.loads(found)
