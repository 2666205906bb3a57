"""Stripe's events, and the few fields of their objects that we read.

`payments.py` handles them; `web/api/stripe.py` receives them and verifies their signatures.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Self

from stream_server.errors import InvalidRequest, WebhookRejected
from stream_server.inventory.orders import Payment
from stream_server.inventory.reservations import CartLine

__all__ = ["Event"]

MAX_AMOUNT: Final = 2**53 - 1  # larger whole numbers are not exact in all JSON readers
MAX_TIME: Final = 253_402_300_799  # seconds since 1970: the end of the year 9999
WORDS: Final = {"true": True, "false": False}
TOKEN: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as Postgres makes them


@dataclass(frozen=True, slots=True)
class Event:
    """An event of Stripe."""

    id: str
    type: str
    signed_at: int  # seconds since 1970
    object: Mapping[str, Any]  # Stripe's object; we read a few fields of it
    created: int | None = None  # seconds since 1970
    lines: list[CartLine] | None = None  # the units that a refund is for: its metadata's `lines`

    @classmethod
    def of(
        cls, given: Mapping[str, Any], *, signed_at: int, lines_of: Callable[[Any], list[CartLine]]
    ) -> Self:
        """Returns the event in Stripe's JSON; `lines_of` reads `lines`.

        Raises WebhookRejected for anything else.
        """
        try:
            event = cls(
                given["id"],
                given["type"],
                signed_at,
                given["data"]["object"],
                _time(given.get("created")),
            )
        except (KeyError, TypeError, AttributeError):
            raise WebhookRejected("the body must be an event of Stripe") from None
        named = _name(event.id, 255) and _name(event.type, 255)
        if named is None or not isinstance(event.object, Mapping):
            raise WebhookRejected("the body must be an event of Stripe")
        return replace(event, lines=_lines(event.metadata, lines_of))

    @property
    def at(self) -> datetime:
        """The time of the event's cause."""
        return datetime.fromtimestamp(self.created or self.signed_at, UTC)

    @property
    def reservation_token(self) -> str | None:
        """The token of the reservation that it names, if well-formed: other checkouts of the same
        account use the fields for their own names."""
        for given in (self.metadata.get("reservation_token"), self.text("client_reference_id")):
            if isinstance(given, str) and TOKEN.fullmatch(given):
                return given
        return None

    @property
    def payment_reference(self) -> str | None:
        """The payment intent of a session, charge, refund or dispute; else the charge, or the id of
        the object itself."""
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
    def paid(self) -> Payment | None:
        """The sum paid for a session or a payment intent; None if it does not tell."""
        amount = self.amount("amount_total", "amount_received")
        if amount is None:
            return None
        return Payment(amount, self.text("currency", 3), self._goods(amount))

    @property
    def is_restocking(self) -> bool | None:
        """Whether the metadata want refunded units back on sale; None if they do not tell. For a
        charge, the metadata of its newest refund win, if Stripe lists refunds."""
        for given in (*_refunds(self.object), self.object):
            said = given.get("metadata")
            if isinstance(said, Mapping) and (word := str(said.get("restock")).lower()) in WORDS:
                return WORDS[word]
        return None

    def amount(self, *fields: str) -> int | None:
        """Returns the first of these fields that is an amount."""
        return next(
            (each for field in fields if (each := _amount(self.object.get(field))) is not None),
            None,
        )

    def text(self, field: str, max_length: int = 200) -> str | None:
        return _name(self.object.get(field), max_length)

    def _goods(self, amount: int) -> int | None:
        """Returns the part of the amount for goods, before discounts: the subtotal, or the amount
        without shipping and tax. None if the object does not tell."""
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
    """Returns the refunds of a charge, the newest first; only older API versions list them."""
    listed = charge.get("refunds")
    data = listed.get("data") if isinstance(listed, Mapping) else None
    return [each for each in data if isinstance(each, Mapping)] if isinstance(data, list) else []


def _name(given: object, max_length: int) -> str | None:
    """Returns a name of Stripe's if it is printable and not too long, else None."""
    if isinstance(given, str) and 0 < len(given) <= max_length and given.isprintable():
        return given
    return None


def _amount(given: object) -> int | None:
    is_whole = isinstance(given, int) and not isinstance(given, bool)
    return given if is_whole and 0 <= given <= MAX_AMOUNT else None  # type: ignore[operator, return-value]


def _time(given: object) -> int | None:
    seconds = _amount(given)
    return seconds if seconds and seconds <= MAX_TIME else None


def _lines(
    metadata: Mapping[str, Any], lines_of: Callable[[Any], list[CartLine]]
) -> list[CartLine] | None:
    try:
        return lines_of(json.loads(metadata["lines"]))
    except (KeyError, TypeError, ValueError, RecursionError, InvalidRequest):
        return None
