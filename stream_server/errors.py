"""What can go wrong, in the words of the domain. Nothing here knows HTTP.

    StreamServerError
    ├── InvalidSettings          a setting of the environment is wrong
    ├── InvalidRequest           a field of a request is missing or wrong
    │   └── MaxPerOrderExceeded  more than one order may have of a product
    ├── ProductNotFound          no product has this id
    │   └── VariantNotFound      the product has no such variant
    ├── InsufficientStock        not so much is left
    ├── ImpossibleChange         a quantity would leave its bounds
    ├── VersionConflict          the row is not as the caller knew it
    ├── ReservationNotFound      no reservation has this token
    ├── ReservationEnded         it holds nothing any more
    │   ├── ReservationExpired
    │   └── ReservationReleased
    ├── ReservationConverted     it has become an order
    ├── AlreadyExtended          it was extended before
    ├── OrderNotFound            no order has this id
    ├── OrderConflict            payment, order and its state do not fit together
    ├── IdempotencyKeyReused     another request had this key
    ├── WebhookRejected          an event that the provider did not sign just now
    ├── ImportRejected           rows of a catalogue file are wrong; nothing was changed
    ├── ImportNotFound           no import has this id
    ├── AlertNotFound            no alert has this id
    └── DatabaseError
        ├── DatabaseUnavailable  Postgres does not answer, or refuses us
        ├── TransactionConflict  other transactions won, as often as we tried
        └── SchemaError
            ├── UnsupportedPostgres  the server is older than what this release needs
            ├── SchemaBehind     the database lacks what this release needs
            ├── SchemaOccupied   the schema has tables or functions of our names, and not ours
            ├── SchemaTooNew     the database was migrated by a newer release
            ├── MigrationChanged a file was edited after it had been applied
            ├── MigrationFailed  Postgres refused a file, which counts as not applied
            └── MigrationLocked  another migration holds the lock for too long

`web/errors.py` maps a class to a status. `code` is part of the API and never changes; `message` is
for people; `details` is for programs and is sent as it is, so it must be JSON and hold no secret.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Final

__all__ = [
    "AlertNotFound",
    "AlreadyExtended",
    "DatabaseError",
    "DatabaseUnavailable",
    "IdempotencyKeyReused",
    "ImportNotFound",
    "ImportRejected",
    "ImpossibleChange",
    "InsufficientStock",
    "InvalidRequest",
    "InvalidSettings",
    "MaxPerOrderExceeded",
    "MigrationChanged",
    "MigrationFailed",
    "MigrationLocked",
    "OrderConflict",
    "OrderNotFound",
    "ProductNotFound",
    "RejectedRow",
    "ReservationConverted",
    "ReservationEnded",
    "ReservationExpired",
    "ReservationNotFound",
    "ReservationReleased",
    "SchemaBehind",
    "SchemaError",
    "SchemaOccupied",
    "SchemaTooNew",
    "StreamServerError",
    "TransactionConflict",
    "UnsupportedPostgres",
    "VariantNotFound",
    "VersionConflict",
    "WebhookRejected",
]


class StreamServerError(Exception):
    """The root: whatever this service raises on purpose."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, object] = details or {}


class InvalidSettings(StreamServerError):
    """`problems` maps the name of an environment variable to what is wrong with it."""

    code = "invalid_settings"

    def __init__(self, problems: Mapping[str, str]) -> None:
        lines = [f"{name}: {problem}" for name, problem in problems.items()]
        super().__init__("\n".join(lines), {"problems": dict(problems)})


class InvalidRequest(StreamServerError):
    """`field` is named as the client wrote it; `expected` completes "field must be …"."""

    code = "invalid_request"

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"{field} must be {expected}", {"field": field, "expected": expected})
        self.field = field
        self.expected = expected


class ProductNotFound(StreamServerError):
    code = "product_not_found"

    def __init__(self, product_id: str) -> None:
        super().__init__(f"There is no product {product_id!r}", {"productId": product_id})
        self.product_id = product_id


class VariantNotFound(ProductNotFound):
    code = "variant_not_found"

    def __init__(self, product_id: str, variant_id: str) -> None:
        StreamServerError.__init__(
            self,
            f"Product {product_id!r} has no variant {variant_id!r}",
            {"productId": product_id, "variantId": variant_id},
        )
        self.product_id = product_id
        self.variant_id = variant_id


class MaxPerOrderExceeded(InvalidRequest):
    code = "max_per_order_exceeded"

    def __init__(self, product_id: str, requested: int, max_per_order: int) -> None:
        StreamServerError.__init__(
            self,
            f"At most {max_per_order} of product {product_id!r} can be had in one order",
            {"productId": product_id, "requested": requested, "maxPerOrder": max_per_order},
        )
        self.field, self.expected = "quantity", f"{max_per_order} at most"


class InsufficientStock(StreamServerError):
    """`lines` are the wire's: productId, variantId, requested and available units, and what could
    be bought instead (`alternatives`), where somebody has looked for it."""

    code = "insufficient_stock"

    def __init__(self, lines: Sequence[Mapping[str, object]]) -> None:
        super().__init__("There is not enough in stock", {"lines": list(lines)})
        self.lines = tuple(lines)


class ImpossibleChange(StreamServerError):
    code = "impossible_change"

    def __init__(self, reason: str) -> None:
        super().__init__(f"This change is not possible: {reason}")


class VersionConflict(StreamServerError):
    """`current` is the row as it is now, as the API gives it."""

    code = "version_conflict"

    def __init__(self, current: Mapping[str, object]) -> None:
        super().__init__("The product has changed since", {"current": dict(current)})


class ReservationNotFound(StreamServerError):
    code = "reservation_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such reservation")


class ReservationEnded(StreamServerError):
    code = "reservation_ended"


class ReservationExpired(ReservationEnded):
    code = "reservation_expired"

    def __init__(self) -> None:
        super().__init__("The reservation has expired")


class ReservationReleased(ReservationEnded):
    code = "reservation_released"

    def __init__(self) -> None:
        super().__init__("The reservation was released")


class ReservationConverted(StreamServerError):
    code = "reservation_converted"

    def __init__(self) -> None:
        super().__init__("The reservation has become an order")


class AlreadyExtended(StreamServerError):
    code = "already_extended"

    def __init__(self) -> None:
        super().__init__("The reservation has been extended before")


class OrderNotFound(StreamServerError):
    code = "order_not_found"

    def __init__(self, order_id: object) -> None:
        super().__init__(f"There is no order {order_id}", {"orderId": order_id})


class OrderConflict(StreamServerError):
    code = "order_conflict"


class IdempotencyKeyReused(StreamServerError):
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("Another request had this Idempotency-Key; each needs its own")


class WebhookRejected(StreamServerError):
    code = "webhook_rejected"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The event is not accepted: {reason}")


SHOWN_REJECTIONS: Final = 1000  # in an answer; whoever runs the import gets all


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One wrong row of an import. `line` and `column` count from 1; in CSV, the column is the
    field's position. None where the file has no place for it."""

    line: int | None
    column: int | None
    reason: str
    id: str | None = None


class ImportRejected(StreamServerError):
    """An import changed nothing, because of these mistakes. `count` is the number of all mistakes,
    where `rows` are only the first of them; `import_id` names the import's record."""

    code = "import_rejected"

    def __init__(
        self,
        rows: Sequence[RejectedRow],
        count: int | None = None,
        import_id: int | None = None,
    ) -> None:
        self.rows = tuple(rows)
        self.count = len(rows) if count is None else count
        noun = "mistake" if self.count == 1 else "mistakes"
        details: dict[str, object] = {} if import_id is None else {"importId": import_id}
        details["count"] = self.count
        details["rows"] = [asdict(row) for row in rows[:SHOWN_REJECTIONS]]
        super().__init__(f"{self.count} {noun} found; nothing was changed", details)


class ImportNotFound(StreamServerError):
    code = "import_not_found"

    def __init__(self, import_id: int) -> None:
        super().__init__(f"There is no import {import_id}", {"importId": import_id})


class AlertNotFound(StreamServerError):
    code = "alert_not_found"

    def __init__(self, alert_id: int) -> None:
        super().__init__(f"There is no alert {alert_id}", {"alertId": alert_id})


class DatabaseError(StreamServerError):
    code = "database_error"


class DatabaseUnavailable(DatabaseError):
    """Postgres does not answer or refuses us. The message names the host, never a password."""

    code = "database_unavailable"


class TransactionConflict(DatabaseError):
    """A deadlock, a serialization failure or a lock that did not come: trying again may help."""

    code = "transaction_conflict"

    def __init__(self, message: str = "Other changes kept getting in the way; try again") -> None:
        super().__init__(message)


class SchemaError(DatabaseError):
    """The database's schema and this release do not fit. People must act, a retry won't help."""

    code = "schema_error"


class UnsupportedPostgres(SchemaError):
    code = "unsupported_postgres"

    def __init__(self, version: str, oldest: int) -> None:
        super().__init__(
            f"This is Postgres {version}; {oldest} or newer is needed. Nothing was changed",
            {"version": version, "oldest": oldest},
        )


class SchemaBehind(SchemaError):
    """`is_empty`: nothing of ours is in the schema."""

    code = "schema_behind"

    def __init__(self, missing: Sequence[str], schema: str, *, is_empty: bool = False) -> None:
        lacks = "is empty" if is_empty else f"lacks {', '.join(missing)}"
        super().__init__(
            f"The database {lacks} (in the schema {schema}). Run: stream-server migrate",
            {"missing": list(missing), "schema": schema},
        )


class SchemaOccupied(SchemaError):
    """`taken` are tables, views, types and functions that are not ours, such as `table orders`."""

    code = "schema_occupied"

    def __init__(self, schema: str, taken: Sequence[str]) -> None:
        super().__init__(
            f"The schema {schema} has things of our names that are not ours: {', '.join(taken)}."
            " Nothing was changed. Set DATABASE_SCHEMA to another schema, such as stream_server",
            {"schema": schema, "taken": list(taken)},
        )


class SchemaTooNew(SchemaError):
    code = "schema_too_new"

    def __init__(self, unknown: Sequence[str]) -> None:
        super().__init__(
            f"The database was migrated by a newer release: {', '.join(unknown)} is not known here."
            " Install that release, or restore the database as it was before it",
            {"unknown": list(unknown)},
        )


class MigrationChanged(SchemaError):
    code = "migration_changed"

    def __init__(self, changed: Sequence[str]) -> None:
        super().__init__(
            f"{', '.join(changed)} was edited after this database had applied it. Put the file"
            " back as it was and make the change in a new migration",
            {"changed": list(changed)},
        )


class MigrationFailed(SchemaError):
    """`line` of the file `name`, counted from 1, as far as Postgres says where."""

    code = "migration_failed"

    def __init__(self, name: str, reason: str, line: int | None = None) -> None:
        place = name if line is None else f"{name}, line {line}"
        super().__init__(
            f"{place}: {reason}. This file was not applied",
            {"name": name, "line": line, "reason": reason},
        )


class MigrationLocked(SchemaError):
    code = "migration_locked"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"Another migration, or whoever uses our tables, has held the locks for {seconds:g} s"
        )
