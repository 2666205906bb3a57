"""What can go wrong, in the words of the domain. Nothing here knows HTTP.

    StreamServerError
    ├── InvalidSettings          a setting of the environment is wrong
    ├── InvalidRequest           a field of a request is missing or wrong
    ├── ProductNotFound          no product has this id
    ├── ImportRejected           rows of a catalogue file are wrong; nothing was changed
    └── DatabaseError
        ├── DatabaseUnavailable  Postgres does not answer, or refuses us
        ├── TransactionConflict  other transactions won, as often as we tried
        └── SchemaError
            ├── SchemaBehind     the database lacks what this release needs
            ├── SchemaTooNew     the database was migrated by a newer release
            ├── MigrationChanged a file was edited after it had been applied
            ├── MigrationFailed  Postgres refused a file; it left nothing behind
            └── MigrationLocked  another migration holds the lock for too long

`app.py` maps a class to a status. `code` is part of the API and never changes; `message` is for
people; `details` is for programs and is sent as it is, so it must be JSON and hold no secret.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

__all__ = [
    "DatabaseError",
    "DatabaseUnavailable",
    "ImportRejected",
    "InvalidRequest",
    "InvalidSettings",
    "MigrationChanged",
    "MigrationFailed",
    "MigrationLocked",
    "ProductNotFound",
    "RejectedRow",
    "SchemaBehind",
    "SchemaError",
    "SchemaTooNew",
    "StreamServerError",
    "TransactionConflict",
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


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One wrong row of an import. `line` counts from 1; None where a file has no line for it."""

    line: int | None
    reason: str
    id: str | None = None


class ImportRejected(StreamServerError):
    """An import changed nothing, because of these rows."""

    code = "import_rejected"

    def __init__(self, rows: Sequence[RejectedRow]) -> None:
        noun = "row is" if len(rows) == 1 else "rows are"
        super().__init__(
            f"{len(rows)} {noun} wrong; nothing was changed",
            {"rows": [asdict(row) for row in rows]},
        )
        self.rows = tuple(rows)


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


class SchemaBehind(SchemaError):
    code = "schema_behind"

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f"The database lacks {', '.join(missing)}. Run: stream-server migrate",
            {"missing": list(missing)},
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
            f"{place}: {reason}. Nothing of this file was applied",
            {"name": name, "line": line, "reason": reason},
        )


class MigrationLocked(SchemaError):
    code = "migration_locked"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Another migration has been running for more than {seconds:g} s")
