"""Stripe's events, and what each of them does to reservations and orders.

    checkout.session.completed                paid: complete the order; unpaid: wait
    checkout.session.async_payment_succeeded  complete the order
    checkout.session.async_payment_failed     release the reservation
    checkout.session.expired                  release the reservation
    charge.refunded                           refund the order, if all was refunded

A session names its reservation in `metadata.reservation_token` or `client_reference_id`. The
payment reference of the order is the payment intent, or the session where there is nothing to pay.
An event is recorded once, in the transaction of what it does: sent again, it does nothing. Its
outcome says in words what became of it. https://docs.stripe.com/checkout/fulfillment
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import stripe

from stream_server.database.pool import Transaction
from stream_server.errors import (
    OrderConflict,
    ReservationConverted,
    ReservationEnded,
    ReservationNotFound,
    WebhookRejected,
)
from stream_server.inventory import alerts, orders, reservations

__all__ = ["UNHANDLED", "Event", "deal_with", "verified"]

logger = logging.getLogger(__name__)

ACTOR: Final = "stripe"
TOLERANCE: Final = 300  # seconds since it was signed
UNHANDLED: Final = "not handled"
LOCK: Final = int.from_bytes(b"paid")  # the first of two keys of an advisory lock
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
 where reference = :reference and outcome = :waits returning id
"""


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    type: str
    signed_at: int  # seconds since 1970
    object: Mapping[str, Any]  # Stripe's, of which we know a few fields

    @property
    def reservation_token(self) -> str | None:
        """The reservation that a session names."""
        metadata = self.object.get("metadata")
        named = metadata.get("reservation_token") if isinstance(metadata, Mapping) else None
        return _name(named or self.object.get("client_reference_id"), 200)

    @property
    def payment_reference(self) -> str | None:
        """The payment intent of a session or a charge; else the session."""
        intent = self.object.get("payment_intent")
        if isinstance(intent, Mapping):  # expanded
            intent = intent.get("id")
        return _name(intent or self.object.get("id"), 200)


def verified(body: bytes, signature: str | None, secret: str) -> Event:
    """The event in a request's raw body.

    Raises WebhookRejected if Stripe has not signed these very bytes in the last five minutes.
    """
    try:
        # As text: before 15.6, the library signs the text "b'…'" of bytes.
        stripe.WebhookSignature.verify_header(body.decode(), signature, secret, TOLERANCE)
    except stripe.SignatureVerificationError as error:
        reason = str(error.user_message or error).partition(" (")[0]
        raise WebhookRejected(reason) from None
    except (ValueError, TypeError):
        raise WebhookRejected("The body or its signature is no text") from None
    try:
        event = json.loads(body)
        found = Event(event["id"], event["type"], _signed_at(signature), event["data"]["object"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise WebhookRejected("The body is no event") from None
    named = _name(found.id, 255) and _name(found.type, 255)
    if named is None or not isinstance(found.object, Mapping):
        raise WebhookRejected("The body is no event")
    return found


async def deal_with(connection: Transaction, event: Event) -> str | None:
    """Do what the event asks for; its outcome, or None if it has been dealt with before.

    Wants a transaction. Raises WebhookRejected for a replay: Stripe signs an event anew each time
    that it sends it. Raises what the database raises: the event is then not recorded, and is
    dealt with when it is sent again.
    """
    reference = event.payment_reference
    # Of a payment and its refund, which come in any order, one waits for the other.
    await connection.execute(
        "select pg_advisory_xact_lock(:lock, hashtext(:reference))",
        {"lock": LOCK, "reference": reference or event.id},
    )
    values = {
        "id": event.id,
        "type": event.type,
        "reference": reference,
        "signed_at": event.signed_at,
    }
    is_new = await connection.fetch_val(RECORD, values)
    if is_new is None:
        raise WebhookRejected("It has come before with a signature as new as this one")
    if not is_new:
        return None
    deal = DEALS.get(event.type)
    outcome = UNHANDLED if deal is None else await deal(connection, event)
    await connection.execute(FINISH, {"id": event.id, "outcome": outcome})
    return outcome


def _name(given: object, longest: int) -> str | None:
    """What Stripe calls something, if that can be a name: printable, and not too long."""
    if isinstance(given, str) and 0 < len(given) <= longest and given.isprintable():
        return given
    return None


def _signed_at(signature: str | None) -> int:
    """The time in a header `t=…,v1=…` that has been verified: the first, as for the library."""
    parts = [part.split("=", 1) for part in (signature or "").split(",") if "=" in part]
    return int(next(value for key, value in parts if key == "t"))


async def _complete_if_paid(connection: Transaction, event: Event) -> str:
    if event.object.get("payment_status") not in ("paid", "no_payment_required"):
        return "waits for its payment"
    return await _complete(connection, event)


async def _complete(connection: Transaction, event: Event) -> str:
    token, reference = event.reservation_token, event.payment_reference
    if token is None or reference is None:
        return "no reservation named"
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
        return await _unplaced(connection, event, reference, "the reservation is not known")
    except OrderConflict as error:
        reason = error.message[:1].lower() + error.message[1:]
        return await _unplaced(connection, event, reference, reason)
    if await _was_refunded(connection, reference, "order refunded"):
        await orders.refund(connection, order["orderId"], actor=ACTOR)
        return "order completed and refunded"
    if order["status"] == "cancelled" or (order["status"] == "refunded" and not was_known):
        return await _unplaced(connection, event, reference, f"the order is {order['status']}")
    if order["status"] == "shortfall":
        logger.error("Order %d is paid, but cannot be filled", order["orderId"])
        return "order short of stock"
    return "order completed"


async def _unplaced(connection: Transaction, event: Event, reference: str, reason: str) -> str:
    """Somebody has paid and gets nothing, so somebody else has to look at it."""
    if await _was_refunded(connection, reference, REFUNDED_UNPLACED):
        return f"paid and refunded; {reason}"
    logger.error("Stripe's event %s: %s is paid, but %s", event.id, reference, reason)
    await alerts.payment_unplaced(connection, reference, reason)
    return f"paid, but {reason}"


async def _was_refunded(connection: Transaction, reference: str, outcome: str) -> bool:
    """Whether a refund of this payment came before it; that one's outcome is now this."""
    values = {"reference": reference, "waits": REFUND_WAITS, "outcome": outcome}
    return await connection.fetch_val(WAITING_REFUND, values) is not None


async def _release(connection: Transaction, event: Event) -> str:
    token = event.reservation_token
    if token is None:
        return "no reservation named"
    try:
        async with connection.savepoint():
            await reservations.release(connection, token, actor=ACTOR)
    except ReservationNotFound:
        return "the reservation is not known"
    except (ReservationEnded, ReservationConverted):
        return "the reservation had ended"
    return "reservation released"


async def _refund(connection: Transaction, event: Event) -> str:
    reference = event.payment_reference
    if event.object.get("refunded") is not True or reference is None:
        return "a part was refunded: nothing given back"
    was_unplaced = await alerts.payment_refunded(connection, reference)
    order_id = await orders.find_by_payment(connection, reference)
    if order_id is None:
        return REFUNDED_UNPLACED if was_unplaced else REFUND_WAITS
    await orders.refund(connection, order_id, actor=ACTOR)
    return "order refunded"


DEALS: Mapping[str, Callable[[Transaction, Event], Awaitable[str]]] = {
    "checkout.session.completed": _complete_if_paid,
    "checkout.session.async_payment_succeeded": _complete,
    "checkout.session.async_payment_failed": _release,
    "checkout.session.expired": _release,
    "charge.refunded": _refund,
}
