"""Orders: thin calls of the SQL functions, which do the work.

Each call is one statement and, on a pool, a transaction of its own: wrap it in `retry`. In a
transaction it takes part in that. What comes back is the order as the API gives it.
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
    """Units ordered, those of them that are sold to the order, and those whose money went back."""

    productId: str
    variantId: str | None
    quantity: int
    filledQuantity: int
    refundedQuantity: int
    unitPrice: int


class Order(TypedDict):
    """`status` is paid, shortfall, refunded or cancelled. Money is in the currency's smallest unit:
    `total` is what the units cost, `amount` what was paid, if somebody has said it."""

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
    """What was paid, all in all, in the smallest unit of a currency (ISO 4217). `goods` are for the
    order's units, before discounts: None where they are all."""

    amount: int
    currency: str | None = None
    goods: int | None = None


@dataclass(frozen=True, slots=True)
class Reversal:
    """What a provider says of a refund, the sum of a charge's refunds, or a dispute, as it was at
    some time; see `sql/functions/payments/record_reversal.sql`."""

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
    """The order of a payment, if there is one; whether the payment is known at all; and what
    somebody has been alerted of: refund_failed, dispute, dispute_lost."""

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
    queries: Queries,
    order_id: int,
    *,
    restock: bool = True,
    lines: Sequence[CartLine] | None = None,
    amount: int | None = None,
    reference: str | None = None,
    actor: str | None = None,
) -> Order:
    """Note that money went back: all that is left, or that of some units, or an amount. Unless the
    goods are lost, put the units back on the shelf. `reference` names the provider's refund, which
    is counted once.

    Raises OrderNotFound, InvalidRequest for more than the order has left, OrderConflict for another
    order's refund, and for a part of an order that is refunded.
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
    """Note what was paid for an order; whether it is another sum, or in another currency than the
    shop's, `currency`. That opens an alert. Raises OrderNotFound."""
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
    """Note what a provider says of money that goes back, and do what follows."""
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
    """Whether the provider has said that all of a payment went back."""
    found: bool = await queries.fetch_val(
        "select is_all_refunded(:payment,"
        " (select id from orders where payment_reference = :payment))",
        {"payment": payment_reference},
    )
    return found


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


async def prune(queries: Queries, *, older_than: timedelta, max_count: int) -> int:
    """Forget orders that were last changed so long ago and have no shortfall, so many at most; how
    many."""
    pruned: int = await queries.fetch_val(
        "select prune_orders(:older_than, :max_count)",
        {"older_than": older_than, "max_count": max_count},
    )
    return pruned


async def _json(queries: Queries, query: str, **values: object) -> Any:  # the caller's type
    found = await queries.fetch_val(query, values)
    return None if found is None else json.loads(found)
