"""What our SQL functions refuse, by SQLSTATE: class SS is theirs, with the details as JSON.

A function raises `using errcode = 'SS003', detail = <jsonb>`; here that becomes an error of the
domain. The names of SS codes are written in the functions' headings.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from stream_server.errors import (
    AlreadyExtended,
    DatabaseUnavailable,
    ImpossibleChange,
    InsufficientStock,
    InvalidRequest,
    MaxPerOrderExceeded,
    OrderConflict,
    OrderNotFound,
    ProductNotFound,
    ReservationConverted,
    ReservationExpired,
    ReservationNotFound,
    ReservationReleased,
    StreamServerError,
    VariantNotFound,
    VersionConflict,
)

__all__ = ["REFUSALS"]

Refused = Any  # asyncpg.PostgresError, whose fields are not typed


def _details(error: Refused) -> dict[str, Any]:
    details: dict[str, Any] = json.loads(error.detail or "{}")
    return details


def _not_found(error: Refused) -> StreamServerError:
    details = _details(error)
    if "variantId" in details:
        return VariantNotFound(details["productId"], details["variantId"])
    return ProductNotFound(details["productId"])


def _max_per_order(error: Refused) -> StreamServerError:
    details = _details(error)
    return MaxPerOrderExceeded(details["productId"], details["requested"], details["maxPerOrder"])


def _order_conflict(error: Refused) -> StreamServerError:
    message = str(error.message)
    return OrderConflict(message[:1].upper() + message[1:], _details(error))


def _not_migrated(error: Refused) -> StreamServerError:
    return DatabaseUnavailable(
        f"The schema is not this release's ({error.message}). Run: stream-server migrate"
    )


REFUSALS: Mapping[str, Callable[[Refused], StreamServerError]] = {
    "SS001": lambda error: InvalidRequest(**_details(error)),
    "SS002": _not_found,
    "SS003": lambda error: InsufficientStock(_details(error)["lines"]),
    "SS004": lambda _: ReservationNotFound(),
    "SS005": lambda _: ReservationExpired(),
    "SS006": lambda _: ReservationReleased(),
    "SS007": lambda _: ReservationConverted(),
    "SS008": lambda _: AlreadyExtended(),
    "SS009": lambda error: OrderNotFound(_details(error).get("orderId")),
    "SS010": _order_conflict,
    "SS011": _order_conflict,
    "SS012": _max_per_order,
    "SS013": lambda error: VersionConflict(_details(error)),
    "42883": _not_migrated,  # undefined_function
    "42P01": _not_migrated,  # undefined_table
    # What the tables themselves refuse, whoever writes.
    "23514": lambda error: ImpossibleChange(f"it breaks {error.constraint_name}"),
    "22003": lambda _: ImpossibleChange("a number would be too large"),
    "22021": lambda _: InvalidRequest("text", "Unicode without the character 0"),
    "22P05": lambda _: InvalidRequest("text", "Unicode without the character 0"),
}
