"""The errors of the domain. They know nothing of HTTP.

    StreamServerError
    ├── InvalidSettings          a setting of the environment is wrong
    ├── InvalidRequest           a field of a request is missing or wrong
    │   └── MaxPerOrderExceeded  the quantity is above the product's maximum for one order
    ├── ProductNotFound          no product has this id
    │   └── VariantNotFound      the product has no such variant
    ├── InsufficientStock        fewer units are left than were asked for
    ├── ImpossibleChange         a quantity would leave its bounds
    ├── VersionConflict          the row has changed since the caller read it
    ├── ReservationNotFound      no reservation has this token
    ├── ReservationEnded         the reservation holds no stock any more
    │   ├── ReservationExpired
    │   └── ReservationReleased
    ├── ReservationConverted     the reservation has become an order
    ├── AlreadyExtended          the reservation has been extended before
    ├── OrderNotFound            no order has this id
    ├── OrderConflict            payment, order and the order's state contradict each other
    ├── IdempotencyKeyReused     another request had this key
    ├── WebhookRejected          the event is malformed, or its signature is invalid or old
    ├── ImportRejected           rows of a catalogue file are wrong; nothing was changed
    ├── ImportNotFound           no import has this id
    ├── AlertNotFound            no alert has this id
    └── DatabaseError
        ├── DatabaseUnavailable  Postgres does not answer, or refuses the connection
        ├── TransactionConflict  other transactions interfered in every attempt
        └── SchemaError
            ├── UnsupportedPostgres  the server is older than this release supports
            ├── SchemaBehind     the database lacks migrations of this release
            ├── SchemaOccupied   the schema has foreign tables or functions with our names
            ├── SchemaTooNew     the database was migrated by a newer release
            ├── MigrationChanged a file was edited after it had been applied
            ├── MigrationFailed  Postgres refused a file, which counts as not applied
            └── MigrationLocked  another session held a lock for too long

`web/errors.py` maps a class to a status. `code` is part of the API and never changes. `message` is
for people. `details` is for programs: it is sent unchanged, so it must be JSON and hold no secret.
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
    """The root of all errors that this service raises on purpose."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, object] = details or {}


class InvalidSettings(StreamServerError):
    """Wrong settings: `problems` maps the name of an environment variable to what is wrong."""

    code = "invalid_settings"

    def __init__(self, problems: Mapping[str, str]) -> None:
        lines = [f"{name}: {problem}" for name, problem in problems.items()]
        super().__init__("\n".join(lines), {"problems": dict(problems)})


class InvalidRequest(StreamServerError):
    """A wrong field: `field` as the client wrote it; `expected` completes "field must be …"."""

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
            f"One order may have at most {max_per_order} of product {product_id!r}",
            {"productId": product_id, "requested": requested, "maxPerOrder": max_per_order},
        )
        self.field, self.expected = "quantity", f"at most {max_per_order}"


class InsufficientStock(StreamServerError):
    """Too few units: `lines` as the API sends them, with productId, variantId, requested and
    available units, and `alternatives` to buy instead where the caller has added them."""

    code = "insufficient_stock"

    def __init__(self, lines: Sequence[Mapping[str, object]]) -> None:
        super().__init__(
            "There is not enough in stock; ask for at most the available units",
            {"lines": list(lines)},
        )
        self.lines = tuple(lines)


class ImpossibleChange(StreamServerError):
    code = "impossible_change"

    def __init__(self, reason: str) -> None:
        super().__init__(f"This change is not possible: {reason}")


class VersionConflict(StreamServerError):
    """A change of an outdated version: `current` is the present row, as the API gives it."""

    code = "version_conflict"

    def __init__(self, current: Mapping[str, object]) -> None:
        super().__init__(
            "The product has changed since you read it; read it again and repeat the change",
            {"current": dict(current)},
        )


class ReservationNotFound(StreamServerError):
    code = "reservation_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such reservation")


class ReservationEnded(StreamServerError):
    code = "reservation_ended"


class ReservationExpired(ReservationEnded):
    code = "reservation_expired"

    def __init__(self) -> None:
        super().__init__("The reservation has expired; reserve again")


class ReservationReleased(ReservationEnded):
    code = "reservation_released"

    def __init__(self) -> None:
        super().__init__("The reservation was released; reserve again")


class ReservationConverted(StreamServerError):
    code = "reservation_converted"

    def __init__(self) -> None:
        super().__init__("The reservation has become an order")


class AlreadyExtended(StreamServerError):
    code = "already_extended"

    def __init__(self) -> None:
        super().__init__("The reservation has been extended before; only one extension is allowed")


class OrderNotFound(StreamServerError):
    code = "order_not_found"

    def __init__(self, order_id: object) -> None:
        super().__init__(f"There is no order {order_id}", {"orderId": order_id})


class OrderConflict(StreamServerError):
    code = "order_conflict"


class IdempotencyKeyReused(StreamServerError):
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("Another request had this Idempotency-Key; send each request its own key")


class WebhookRejected(StreamServerError):
    code = "webhook_rejected"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The event is not accepted: {reason}")


MAX_SHOWN_ROWS: Final = 1000  # in a response; the caller of the import gets all rows


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One wrong row of an import. `line` and `column` count from 1; in CSV, `column` is the field's
    position. Both are None for a mistake without a place in the file."""

    line: int | None
    column: int | None
    reason: str
    id: str | None = None


class ImportRejected(StreamServerError):
    """An import that changed nothing because of mistakes: `rows` are the first of them, `count` is
    the number of all; `import_id` names the import's record."""

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
        details["rows"] = [asdict(row) for row in rows[:MAX_SHOWN_ROWS]]
        super().__init__(
            f"{self.count} {noun} found; nothing was changed. Correct the file and import it again",
            details,
        )


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
    """A Postgres that does not answer or refuses us. The message may name the host, never a
    password."""

    code = "database_unavailable"


class TransactionConflict(DatabaseError):
    """A deadlock, a serialization failure or a lock time-out: trying again may help."""

    code = "transaction_conflict"

    def __init__(self, message: str = "Other changes interfered repeatedly; try again") -> None:
        super().__init__(message)


class SchemaError(DatabaseError):
    """A schema that does not fit this release. An operator must act; a retry will not help."""

    code = "schema_error"


class UnsupportedPostgres(SchemaError):
    code = "unsupported_postgres"

    def __init__(self, version: str, oldest: int) -> None:
        super().__init__(
            f"Postgres is version {version}, but must be {oldest} or newer. Nothing was changed."
            " Upgrade Postgres",
            {"version": version, "oldest": oldest},
        )


class SchemaBehind(SchemaError):
    """A schema that lacks the files `missing`. `is_empty`: it has nothing of ours."""

    code = "schema_behind"

    def __init__(self, missing: Sequence[str], schema: str, *, is_empty: bool = False) -> None:
        lacks = "is empty" if is_empty else f"lacks {', '.join(missing)}"
        super().__init__(
            f"The database {lacks} (in the schema {schema}). Run: stream-server migrate",
            {"missing": list(missing), "schema": schema},
        )


class SchemaOccupied(SchemaError):
    """A schema with foreign tables, views, types or functions that have our names: `taken`, such
    as `table orders`."""

    code = "schema_occupied"

    def __init__(self, schema: str, taken: Sequence[str]) -> None:
        super().__init__(
            f"The schema {schema} has objects with our names that are not ours: {', '.join(taken)}."
            " Nothing was changed. Set DATABASE_SCHEMA to another schema, such as stream_server",
            {"schema": schema, "taken": list(taken)},
        )


class SchemaTooNew(SchemaError):
    code = "schema_too_new"

    def __init__(self, unknown: Sequence[str]) -> None:
        super().__init__(
            f"The database was migrated by a newer release: {', '.join(unknown)}. This release does"
            " not know these files. Install the newer release, or restore a backup from before it",
            {"unknown": list(unknown)},
        )


class MigrationChanged(SchemaError):
    code = "migration_changed"

    def __init__(self, changed: Sequence[str]) -> None:
        super().__init__(
            f"{', '.join(changed)} was edited after this database had applied it. Restore the"
            " file and make the change in a new migration",
            {"changed": list(changed)},
        )


class MigrationFailed(SchemaError):
    """A file that Postgres refuses, at `line`, counted from 1; None if Postgres does not tell."""

    code = "migration_failed"

    def __init__(self, name: str, reason: str, line: int | None = None) -> None:
        place = name if line is None else f"{name}, line {line}"
        super().__init__(
            f"{place}: {reason}. This file was not applied. Remove the cause and migrate again",
            {"name": name, "line": line, "reason": reason},
        )


class MigrationLocked(SchemaError):
    code = "migration_locked"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"Another migration, or a session that uses our tables, has held its locks for"
            f" {seconds:g} s. Migrate again when it has ended"
        )
