"""The effects of Stripe's events on reservations and orders.

    checkout.session.completed                paid: complete the order; unpaid: wait
    checkout.session.async_payment_succeeded  complete the order
    payment_intent.succeeded                  complete its reservation's order; else compare amounts
    checkout.session.async_payment_failed     release the reservation
    checkout.session.expired                  release the reservation
    payment_intent.canceled                   release the reservation
    charge.refunded                           record the sum of the charge's refunds
    refund.created, .updated, .failed,
    charge.refund.updated                     record one refund: amount, units, success or failure
    charge.dispute.created, .updated, .closed alert until the dispute is won

All other events are only recorded. After `payment_intent.payment_failed` the hold stays, because
the shopper may try another card.

An object names its reservation in `metadata.reservation_token` or `client_reference_id`. The
order's payment reference is the payment intent, or the session if nothing has to be paid. An event
is recorded once, in the transaction of its effects: sent again, it does nothing. Its outcome
describes the result in words. https://docs.stripe.com/checkout/fulfillment
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from stream_server.database.transactions import Transaction
from stream_server.errors import (
    OrderConflict,
    ReservationConverted,
    ReservationEnded,
    ReservationNotFound,
    WebhookRejected,
)
from stream_server.inventory import alerts, orders, reservations
from stream_server.inventory.orders import Order, Reversal
from stream_server.inventory.stripe_events import Event

__all__ = ["HANDLED", "UNHANDLED", "Outcome", "Rules", "handle"]

logger = logging.getLogger(__name__)

ACTOR: Final = "stripe"
UNHANDLED: Final = "not handled"
NOT_OURS: Final = "names no reservation of ours"
REFUND_WAITS: Final = "refund waits for its order"
REFUNDED_UNPLACED: Final = "refunded a payment without an order"

RECORD: Final = """
insert into webhook_events (id, type, reference, signed_at)
values (:id, :type, :reference, :signed_at)
on conflict (id) do update set signed_at = excluded.signed_at
 where webhook_events.signed_at < excluded.signed_at
returning xmax = 0 as is_new
"""
FINISH: Final = "update webhook_events set outcome = :outcome where id = :id"
WAITING_REFUND: Final = """
update webhook_events set outcome = :outcome
 where reference = :reference and outcome = :waits
"""


@dataclass(frozen=True, slots=True)
class Rules:
    """The shop's rules: its currency (ISO 4217), and whether refunded units go back on sale by
    default."""

    currency: str = "USD"
    restocks: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an event in words, and its troubles for operators
    (`metrics.PAYMENT_TROUBLES`)."""

    text: str
    troubles: tuple[str, ...] = ()


async def handle(connection: Transaction, event: Event, rules: Rules) -> Outcome | None:
    """Handles the event in a transaction; returns None if it was handled before.

    Raises WebhookRejected for a replay: Stripe signs an event anew each time that it sends it.
    Raises the database's errors, too: the event is then not recorded, and is handled when Stripe
    sends it again.
    """
    reference = event.payment_reference
    # A payment and its refund may arrive in any order. This lock makes one wait for the other.
    await connection.execute(
        "select lock_payment(:reference)", {"reference": reference or event.id}
    )
    values = {
        "id": event.id,
        "type": event.type,
        "reference": reference,
        "signed_at": event.signed_at,
    }
    is_new = await connection.fetch_val(RECORD, values)
    if is_new is None:
        raise WebhookRejected("this delivery, or a newer one, has been received already")
    if not is_new:
        return None
    handler = HANDLERS.get(event.type)
    outcome = Outcome(UNHANDLED) if handler is None else await handler(connection, event, rules)
    await connection.execute(FINISH, {"id": event.id, "outcome": outcome.text})
    await alerts.close_payment(connection, event.id)  # of a failed attempt
    return outcome


async def _complete_if_paid(connection: Transaction, event: Event, rules: Rules) -> Outcome:
    if event.object.get("payment_status") not in ("paid", "no_payment_required"):
        return Outcome("waits for its payment")
    return await _complete(connection, event, rules)


async def _complete(connection: Transaction, event: Event, rules: Rules) -> Outcome:
    token, reference = event.reservation_token, event.payment_reference
    if token is None or reference is None:
        return Outcome(NOT_OURS)
    was_known = await orders.find_by_payment(connection, reference) is not None
    try:
        async with connection.savepoint():
            order = await orders.complete(
                connection,
                reservation_token=token,
                payment_reference=reference,
                record_shortfall=True,
                actor=ACTOR,
            )
    except ReservationNotFound:
        return await _alert_unplaced(connection, event, reference, "the reservation is not known")
    except OrderConflict as error:
        reason = error.message[:1].lower() + error.message[1:]
        return await _alert_unplaced(connection, event, reference, reason)
    troubles = await _compare(connection, event, order["orderId"], rules)
    is_refunded = order["status"] == "refunded" and await orders.is_refunded(connection, reference)
    await _settle_waiting(connection, reference, "order refunded")
    if order["status"] == "cancelled" or (
        order["status"] == "refunded" and not was_known and not is_refunded
    ):
        unplaced = await _alert_unplaced(
            connection, event, reference, f"the order is {order['status']}"
        )
        return Outcome(unplaced.text, (*unplaced.troubles, *troubles))
    return Outcome(
        _describe_completed(order, is_new_and_refunded=is_refunded and not was_known), troubles
    )


def _describe_completed(order: Order, *, is_new_and_refunded: bool) -> str:
    if is_new_and_refunded:
        return "order completed and refunded"
    if order["status"] == "shortfall":
        logger.error("Order %d is paid, but lacks stock", order["orderId"])
        return "order short of stock"
    return "order completed"


async def _compare(
    connection: Transaction, event: Event, order_id: int, rules: Rules
) -> tuple[str, ...]:
    if event.paid is None:
        return ()
    differs = await orders.record_payment(connection, order_id, event.paid, currency=rules.currency)
    if differs:
        logger.error("The sum paid for order %d differs from its total", order_id)
    return ("amount",) if differs else ()


async def _complete_intent(connection: Transaction, event: Event, rules: Rules) -> Outcome:
    """Handles a payment intent, which may not name the reservation: its session may do so."""
    if event.reservation_token is not None:
        return await _complete(connection, event, rules)
    reference = event.payment_reference
    order_id = None if reference is None else await orders.find_by_payment(connection, reference)
    if order_id is None:
        return Outcome(NOT_OURS)
    troubles = await _compare(connection, event, order_id, rules)
    return Outcome("order paid with another sum" if troubles else "order paid", troubles)


async def _alert_unplaced(
    connection: Transaction, event: Event, reference: str, reason: str
) -> Outcome:
    """Opens an alert for a customer who has paid and gets nothing, unless all was refunded."""
    await _settle_waiting(connection, reference, REFUNDED_UNPLACED)
    if await orders.is_refunded(connection, reference):
        return Outcome(f"paid and refunded; {reason}")
    logger.error("Stripe's event %s: %s is paid, but %s", event.id, reference, reason)
    await alerts.open_unplaced_payment(connection, reference, reason)
    return Outcome(f"paid, but {reason}", ("unplaced",))


async def _settle_waiting(connection: Transaction, reference: str, outcome: str) -> None:
    """Sets the outcome of refunds that arrived before this payment."""
    values = {"reference": reference, "waits": REFUND_WAITS, "outcome": outcome}
    await connection.execute(WAITING_REFUND, values)


async def _release(connection: Transaction, event: Event, _: Rules) -> Outcome:
    token = event.reservation_token
    if token is None:
        return Outcome(NOT_OURS)
    try:
        async with connection.savepoint():
            await reservations.release(connection, token, actor=ACTOR)
    except ReservationNotFound:
        return Outcome("the reservation is not known")
    except (ReservationEnded, ReservationConverted):
        return Outcome("the reservation had ended")
    return Outcome("reservation released")


async def _refund_charge(connection: Transaction, event: Event, rules: Rules) -> Outcome:
    is_all = event.object.get("refunded") is True
    amount = event.amount("amount_refunded")
    if not is_all and not amount:
        return Outcome("a part was refunded, but not how much")
    return await _reverse(connection, event, rules, "charge", "succeeded", amount, is_all=is_all)


async def _refund(connection: Transaction, event: Event, rules: Rules) -> Outcome:
    said = "failed" if event.type == "refund.failed" else event.object.get("status")
    status = {"failed": "failed", "canceled": "failed", "succeeded": "succeeded"}.get(
        str(said), "pending"
    )
    return await _reverse(connection, event, rules, "refund", status, event.amount("amount"))


async def _dispute(connection: Transaction, event: Event, rules: Rules) -> Outcome:
    status = {"won": "won", "warning_closed": "won", "prevented": "won", "lost": "lost"}.get(
        str(event.object.get("status")), "open"
    )
    return await _reverse(connection, event, rules, "dispute", status, event.amount("amount"))


async def _reverse(
    connection: Transaction,
    event: Event,
    rules: Rules,
    kind: str,
    status: str,
    amount: int | None,
    *,
    is_all: bool = False,
) -> Outcome:
    name, reference = event.text("id"), event.payment_reference
    if name is None or reference is None:
        return Outcome("names no payment")
    restock = event.is_restocking
    settled = await orders.record_reversal(
        connection,
        Reversal(
            name,
            reference,
            kind,
            status,
            event.at,
            amount,
            event.text("currency", 3),
            is_all,
            rules.restocks if restock is None else restock,
            event.lines if kind == "refund" else None,
            event.text("failure_reason") or event.text("reason"),
        ),
        actor=ACTOR,
    )
    troubles = tuple(settled["news"])
    for trouble in troubles:
        logger.error("Stripe's event %s: %s of %s", event.id, trouble, reference)
    if kind == "dispute":
        return Outcome(
            f"dispute {status}" if settled["isOurs"] else "dispute waits for its order", troubles
        )
    if not settled["isOurs"]:
        return Outcome(REFUND_WAITS)
    if status == "failed":
        return Outcome("refund failed", troubles)
    if settled["orderId"] is None:
        return Outcome(REFUNDED_UNPLACED, troubles)
    is_whole = settled["orderStatus"] == "refunded"
    return Outcome("order refunded" if is_whole else "a part was refunded", troubles)


Handler = Callable[[Transaction, Event, Rules], Awaitable[Outcome]]
HANDLERS: Final[Mapping[str, Handler]] = {
    "checkout.session.completed": _complete_if_paid,
    "checkout.session.async_payment_succeeded": _complete,
    "checkout.session.async_payment_failed": _release,
    "checkout.session.expired": _release,
    "payment_intent.succeeded": _complete_intent,
    "payment_intent.canceled": _release,
    "charge.refunded": _refund_charge,
    "charge.refund.updated": _refund,
    "refund.created": _refund,
    "refund.updated": _refund,
    "refund.failed": _refund,
    "charge.dispute.created": _dispute,
    "charge.dispute.updated": _dispute,
    "charge.dispute.closed": _dispute,
}
HANDLED: Final = frozenset(HANDLERS)
