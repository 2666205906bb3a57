"""Reservations of stock during a checkout: thin calls of the SQL functions that do the work.

Each call is one statement. On a pool, it is a transaction of its own: wrap it in `retry`. In a
transaction, it is a part of that. It returns the reservation as the API gives it. An `actor` of
None keeps the transaction's actor, by default the database user.
"""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NotRequired, TypedDict

from stream_server.database.transactions import Queries

__all__ = [
    "CartLine",
    "Reservation",
    "ReservationLine",
    "expire",
    "extend",
    "find",
    "prune",
    "release",
    "reserve",
]


class CartLine(TypedDict):
    """A line of a cart: units of a product or, if it has variants, of one of them."""

    productId: str
    variantId: str | None
    quantity: int


class ReservationLine(TypedDict):
    """A line of a reservation: `quantity` units are held. `requested` is present in the first
    answer, and if fewer units are held than requested. `unitPrice` is the price at the time of the
    reservation, in the currency's smallest unit."""

    productId: str
    variantId: str | None
    quantity: int
    unitPrice: int
    requested: NotRequired[int]


class Reservation(TypedDict):
    """A reservation. `status` is active, converted, released or expired; `expiresAt` is ISO 8601.
    `total` is the price of its order."""

    token: str
    status: str
    expiresAt: str
    isExtendable: bool
    lines: list[ReservationLine]
    total: int


async def reserve(
    queries: Queries,
    checkout_token: str,
    lines: Sequence[CartLine],
    *,
    hold: timedelta,
    allow_partial: bool = False,
    actor: str | None = None,
) -> Reservation:
    """Reserves the lines of a cart for the time `hold`. Replaces an earlier reservation of the same
    checkout token. With `allow_partial`, reserves the available units if there are too few.

    Raises InvalidRequest, ProductNotFound, VariantNotFound, MaxPerOrderExceeded, and
    InsufficientStock with the requested and available units of each line. After an error, nothing
    has changed.
    """
    reservation: Reservation = await _json(
        queries,
        "select reserve_stock(:checkout, cast(:cart as jsonb), cast(:hold as interval),"
        " :allow_partial, :actor)",
        checkout=checkout_token,
        cart=json.dumps(lines),
        hold=hold,
        allow_partial=allow_partial,
        actor=actor,
    )
    return reservation


async def find(queries: Queries, token: str) -> Reservation:
    """Returns the reservation with this token.

    Raises ReservationNotFound, and ReservationExpired or ReservationReleased if it has ended.
    """
    reservation: Reservation = await _json(queries, "select find_reservation(:token)", token=token)
    return reservation


async def extend(queries: Queries, token: str, *, hold: timedelta) -> Reservation:
    """Extends the reservation by the time `hold`, once.

    Raises ReservationNotFound, ReservationExpired, ReservationReleased, ReservationConverted,
    AlreadyExtended.
    """
    reservation: Reservation = await _json(
        queries,
        "select extend_reservation(:token, cast(:hold as interval))",
        token=token,
        hold=hold,
    )
    return reservation


async def release(queries: Queries, token: str, *, actor: str | None = None) -> Reservation:
    """Releases the reservation's units.

    Raises ReservationNotFound, ReservationExpired, ReservationReleased, ReservationConverted.
    """
    reservation: Reservation = await _json(
        queries, "select release_reservation(:token, :actor)", token=token, actor=actor
    )
    return reservation


async def expire(queries: Queries, *, max_count: int = 100) -> int:
    """Ends at most `max_count` overdue reservations; returns their number. Several processes may
    call it at the same time."""
    ended: int = await queries.fetch_val(
        "select expire_reservations(:max_count)", {"max_count": max_count}
    )
    return ended


async def prune(queries: Queries, *, older_than: timedelta, max_count: int) -> int:
    """Deletes at most `max_count` reservations that ended without an order longer than `older_than`
    ago; returns their number."""
    pruned: int = await queries.fetch_val(
        "select prune_reservations(:older_than, :max_count)",
        {"older_than": older_than, "max_count": max_count},
    )
    return pruned


async def _json(queries: Queries, query: str, **values: object) -> Any:  # the caller's type
    return json.loads(await queries.fetch_val(query, values))
