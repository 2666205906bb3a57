"""Stripe's events as they come: signed, and with the few fields that we know of their objects.

What is done about them is in `stripe_deals.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import stripe

from stream_server.errors import InvalidRequest, WebhookRejected
from stream_server.inventory.orders import Paid
from stream_server.inventory.reservations import CartLine
from stream_server.web.api.reservations import cart_lines

__all__ = ["Event", "verified"]

TOLERANCE: Final = 300  # seconds since it was signed
LARGEST: Final = 2**53 - 1  # of an amount; JSON has no larger whole numbers that all programs read
LATEST: Final = 253_402_300_799  # the last second of the calendar, since 1970
WORDS: Final = {"true": True, "false": False}
TOKEN: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as Postgres makes them


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    type: str
    signed_at: int  # seconds since 1970
    object: Mapping[str, Any]  # Stripe's, of which we know a few fields
    created: int | None = None  # seconds since 1970

    @property
    def at(self) -> datetime:
        """When what it tells of happened."""
        return datetime.fromtimestamp(self.created or self.signed_at, UTC)

    @property
    def reservation_token(self) -> str | None:
        """The reservation that it names, if that can be one: other checkouts of the same account
        have names of their own."""
        for given in (self.metadata.get("reservation_token"), self.text("client_reference_id")):
            if isinstance(given, str) and TOKEN.fullmatch(given):
                return given
        return None

    @property
    def payment_reference(self) -> str | None:
        """The payment intent of a session, charge, refund or dispute; else the charge or itself."""
        for field in ("payment_intent", "charge"):
            given = self.object.get(field)
            if isinstance(given, Mapping):  # expanded
                given = given.get("id")
            if given is not None:
                return _name(given, 200)
        return self.text("id")

    @property
    def metadata(self) -> Mapping[str, Any]:
        given = self.object.get("metadata")
        return given if isinstance(given, Mapping) else {}

    @property
    def paid(self) -> Paid | None:
        """What a session or a payment intent was paid with; None if it does not say it."""
        amount = self.amount("amount_total", "amount_received")
        if amount is None:
            return None
        return Paid(amount, self.text("currency", 3), self._goods(amount))

    @property
    def is_restocking(self) -> bool | None:
        """What the metadata say of the refunded units: whether they go back on the shelf. Of a
        charge, those of its newest refund come first, where Stripe lists it."""
        for given in (*_refunds(self.object), self.object):
            said = given.get("metadata")
            if isinstance(said, Mapping) and (word := str(said.get("restock")).lower()) in WORDS:
                return WORDS[word]
        return None

    @property
    def lines(self) -> list[CartLine] | None:
        """The units that a refund is for, as JSON in its metadata's `lines`."""
        try:
            return cart_lines(json.loads(self.metadata["lines"]))
        except (KeyError, TypeError, ValueError, RecursionError, InvalidRequest):
            return None

    def amount(self, *fields: str) -> int | None:
        """The first of these fields that is an amount."""
        return next(
            (each for field in fields if (each := _amount(self.object.get(field))) is not None),
            None,
        )

    def text(self, field: str, longest: int = 200) -> str | None:
        return _name(self.object.get(field), longest)

    def _goods(self, amount: int) -> int | None:
        """What of it is for goods, before discounts: as said, or less what else is in the sum."""
        if (subtotal := self.amount("amount_subtotal")) is not None:
            return subtotal
        parts = self.object.get("total_details")
        if not isinstance(parts, Mapping):
            return None
        more = (_amount(parts.get("amount_shipping")) or 0) + (
            _amount(parts.get("amount_tax")) or 0
        )
        return max(0, amount - more + (_amount(parts.get("amount_discount")) or 0))


def _refunds(charge: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The refunds that a charge of Stripe's older API versions lists, the newest first."""
    listed = charge.get("refunds")
    data = listed.get("data") if isinstance(listed, Mapping) else None
    return [each for each in data if isinstance(each, Mapping)] if isinstance(data, list) else []


def verified(body: bytes, signature: str | None, secrets: Sequence[str]) -> Event:
    """The event in a request's raw body, signed with one of the secrets.

    Raises WebhookRejected if Stripe has not signed these very bytes in the last five minutes.
    """
    _verify(body, signature, secrets)
    try:
        event = json.loads(body)
        found = Event(
            event["id"],
            event["type"],
            _signed_at(signature),
            event["data"]["object"],
            _time(event.get("created")),
        )
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        raise WebhookRejected("The body is no event") from None
    named = _name(found.id, 255) and _name(found.type, 255)
    if named is None or not isinstance(found.object, Mapping):
        raise WebhookRejected("The body is no event")
    return found


def _verify(body: bytes, signature: str | None, secrets: Sequence[str]) -> None:
    reason = "There is no secret"
    for secret in secrets:
        try:
            # As text: before 15.6, the library signs the text "b'…'" of bytes.
            stripe.WebhookSignature.verify_header(body.decode(), signature, secret, TOLERANCE)
        except stripe.SignatureVerificationError as error:
            reason = str(error.user_message or error).partition(" (")[0]
        except (ValueError, TypeError):
            raise WebhookRejected("The body or its signature is no text") from None
        else:
            return
    raise WebhookRejected(reason)


def _name(given: object, longest: int) -> str | None:
    """What Stripe calls something, if that can be a name: printable, and not too long."""
    if isinstance(given, str) and 0 < len(given) <= longest and given.isprintable():
        return given
    return None


def _amount(given: object) -> int | None:
    is_whole = isinstance(given, int) and not isinstance(given, bool)
    return given if is_whole and 0 <= given <= LARGEST else None  # type: ignore[operator, return-value]


def _time(given: object) -> int | None:
    seconds = _amount(given)
    return seconds if seconds and seconds <= LATEST else None


def _signed_at(signature: str | None) -> int:
    """The time in a header `t=…,v1=…` that has been verified: the first, as for the library."""
    parts = [part.split("=", 1) for part in (signature or "").split(",") if "=" in part]
    return int(next(value for key, value in parts if key == "t"))
