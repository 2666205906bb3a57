"""Holds on stock during a checkout: thin calls of the SQL functions, which do the work.

Each call is one statement and, on a pool, a transaction of its own: wrap it in `retry`. In a
transaction it takes part in that. What comes back is the reservation as the API gives it; an
`actor` of None leaves the one that the transaction has named, or the database user.
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
    """What a cart asks for: units of a product or, where it has variants, of one of them."""

    productId: str
    variantId: str | None
    quantity: int


class ReservationLine(TypedDict):
    """Units held; `requested` where fewer are held than were asked for, and in a first answer.
    `unitPrice` is in the currency's smallest unit, as it was when they were held."""

    productId: str
    variantId: str | None
    quantity: int
    unitPrice: int
    requested: NotRequired[int]


class Reservation(TypedDict):
    """A hold. `status` is active, converted, released or expired; `expiresAt` is ISO 8601. `total`
    is what its order will cost."""

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
    """Hold what a cart asks for, for so long. The same checkout token replaces its own hold.

    Raises InvalidRequest, ProductNotFound, VariantNotFound, MaxPerOrderExceeded, and
    InsufficientStock with requested and available units a line; nothing has changed then.
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
    """The reservation with this token. Raises ReservationNotFound, and ReservationExpired or
    ReservationReleased for one that has ended."""
    reservation: Reservation = await _json(queries, "select find_reservation(:token)", token=token)
    return reservation


async def extend(queries: Queries, token: str, *, hold: timedelta) -> Reservation:
    """Hold it for so much longer, once.

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
    """Give back what it holds.

    Raises ReservationNotFound, ReservationExpired, ReservationReleased, ReservationConverted.
    """
    reservation: Reservation = await _json(
        queries, "select release_reservation(:token, :actor)", token=token, actor=actor
    )
    return reservation


async def expire(queries: Queries, *, max_count: int = 100) -> int:
    """End reservations that are overdue, so many at most; their number. Safe to run from many
    places at once."""
    ended: int = await queries.fetch_val(
        "select expire_reservations(:max_count)", {"max_count": max_count}
    )
    return ended


async def prune(queries: Queries, *, older_than: timedelta, max_count: int) -> int:
    """Forget reservations that ended without an order so long ago, so many at most; how many."""
    pruned: int = await queries.fetch_val(
        "select prune_reservations(:older_than, :max_count)",
        {"older_than": older_than, "max_count": max_count},
    )
    return pruned


async def _json(queries: Queries, query: str, **values: object) -> Any:  # the caller's type
    return json.loads(await queries.fetch_val(query, values))
