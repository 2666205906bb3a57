"""Turns the errors of Postgres and of its driver into ours: the table from SQLSTATE to error.

Class SS is raised by our SQL functions, `using errcode = 'SS003', detail = <jsonb>`;
`sql/README.md` lists its codes.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import asyncpg

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
    TransactionConflict,
    VariantNotFound,
    VersionConflict,
)

__all__ = ["DRIVER_ERRORS", "REFUSALS", "translate", "translating"]

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


REFUSALS: Final[Mapping[str, Callable[[Refused], StreamServerError]]] = {
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

# SQLSTATE to error: https://www.postgresql.org/docs/current/errcodes-appendix.html
# A key of five characters is one code, one of three or two is all that begin so; any other code is
# a database that cannot do it now.
ERRORS: Final[Mapping[str, Callable[[asyncpg.PostgresError], StreamServerError]]] = {
    **REFUSALS,
    "40P01": lambda _: TransactionConflict(),  # deadlock_detected
    "40001": lambda _: TransactionConflict(),  # serialization_failure
    "55P03": lambda _: TransactionConflict(),  # lock_not_available
    "23505": lambda _: TransactionConflict(),  # unique_violation: another one has just done it
    "22": lambda error: ImpossibleChange(str(error)),  # data_exception
    "23": lambda error: ImpossibleChange(str(error)),  # integrity_constraint_violation
    "44": lambda error: ImpossibleChange(str(error)),  # with_check_option_violation
    "P0001": lambda error: ImpossibleChange(str(error)),  # raised by a function of the shop's
    "08": lambda error: DatabaseUnavailable(f"The connection to Postgres broke: {error}"),
    "25006": lambda error: DatabaseUnavailable(f"Postgres takes no changes now: {error}"),
    "28": lambda error: DatabaseUnavailable(f"Postgres does not let us in: {error}"),
    "3D000": lambda error: DatabaseUnavailable(f"Postgres has no such database: {error}"),
    "42501": lambda error: DatabaseUnavailable(f"We lack a right in Postgres: {error}"),
    "53": lambda error: DatabaseUnavailable(f"Postgres is full: {error}"),
    "57014": lambda error: DatabaseUnavailable(f"Postgres took too long: {error}"),
    "57P": lambda error: DatabaseUnavailable(f"Postgres is not ready: {error}"),
}

DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)


def translate(error: BaseException) -> StreamServerError:
    """The domain's error for one of DRIVER_ERRORS: each of Postgres' errors has one."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        for key in (state, state[:3], state[:2]):
            if key in ERRORS:
                return ERRORS[key](error)
        return DatabaseUnavailable(f"Postgres refuses it ({state}): {error}")
    if isinstance(error, TimeoutError):
        return DatabaseUnavailable("Postgres did not answer in time")
    if isinstance(error, OSError):
        return DatabaseUnavailable(f"Postgres cannot be reached: {error.strerror or error}")
    # asyncpg's own: of a connection that Postgres ended while it was idle it may say many things.
    if re.search("closed|closing|released", str(error)) or isinstance(
        error, asyncpg.InternalClientError
    ):
        return DatabaseUnavailable("The connection to Postgres is closed")
    return DatabaseUnavailable(f"The driver cannot do it: {error}")


@contextmanager
def translating() -> Iterator[None]:
    """Raises the domain's error for what the driver raises in the block."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise translate(error) from error
