"""The record of each import in `import_batches`: its actor and file, its progress and its result.

The record is written outside of the import's transaction, so that others see the progress. Only the
success of an import is part of its transaction. A process that dies leaves its record `running`:
`close_abandoned` notices that no session holds the import's lock any more.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from stream_server.database.pool import AnyPool
from stream_server.database.transactions import Queries, Row, in_transaction
from stream_server.errors import (
    ImportNotFound,
    ImportRejected,
    RejectedRow,
    StreamServerError,
    TransactionConflict,
)
from stream_server.inventory.imports.models import ImportRequest

__all__ = ["ImportRecord", "Progress", "close_abandoned", "find_import", "list_imports"]

LOCK: Final = int.from_bytes(b"impo")  # the first of two keys of an advisory lock
MAX_KEPT_ERRORS: Final = 1000  # in the record; the caller of the import gets more
REPORT_SECONDS: Final = 0.5
MAX_SKIPPED_REPORTS: Final = 20  # in a row, while the progress does not change
PATIENCE_SECONDS: Final = 60  # a younger import may not have taken its lock yet

COLUMNS: Final = """
    id, name, format, sha256, size_bytes, actor, reason, is_dry_run, status, phase, bytes_read,
    row_count, created_count, updated_count, error_count, errors, started_at, finished_at
"""


@dataclass(slots=True)
class Progress:
    """The progress of an import. Its phases are reading, checking and writing."""

    import_id: int
    size: int
    phase: str = "reading"
    bytes_read: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class ImportRecord:
    """The record of a running import."""

    pool: AnyPool
    id: int
    progress: Progress

    @classmethod
    async def begin(
        cls,
        pool: AnyPool,
        request: ImportRequest,
        *,
        sha256: str,
        size: int,
    ) -> "ImportRecord":
        import_id = await pool.fetch_val(
            "insert into import_batches"
            " (name, format, sha256, size_bytes, actor, reason, is_dry_run)"
            " values (:name, :format, :sha256, :size, :actor, :reason, :dry_run) returning id",
            {
                "name": request.name,
                "format": request.format_name,
                "sha256": sha256,
                "size": size,
                "actor": request.actor,
                "reason": request.reason,
                "dry_run": request.dry_run,
            },
        )
        return cls(pool, import_id, Progress(import_id, size))

    async def hold(self, connection: Queries) -> None:
        """Locks the import until the transaction ends, to mark it as running.

        Raises TransactionConflict if it was closed as abandoned before.
        """
        await connection.execute(
            "select pg_advisory_xact_lock(:lock, cast(:id as integer))",
            {"lock": LOCK, "id": self.id},
        )
        status = await connection.fetch_val(
            "select status from import_batches where id = :id", {"id": self.id}
        )
        if status != "running":
            raise TransactionConflict(
                "The import waited so long that it was closed as abandoned; import again"
            )

    @asynccontextmanager
    async def reported(self, tell: Callable[[Progress], None] | None) -> AsyncIterator[None]:
        """Updates the record while the block runs, and passes the progress to `tell`.

        Each update borrows a connection; in a pool of one, the record is not updated. While the
        import waits and its progress does not change, the record is updated every ten seconds.
        """
        done = asyncio.Event()
        task = asyncio.create_task(self._report(done, tell))
        try:
            yield
        finally:
            done.set()
            await task
        if tell is not None:
            tell(self.progress)

    async def _report(self, done: asyncio.Event, tell: Callable[[Progress], None] | None) -> None:
        written, left_out = None, 0
        while not done.is_set():
            if tell is not None:
                tell(self.progress)
            now = replace(self.progress)
            if now != written or left_out == MAX_SKIPPED_REPORTS:
                with suppress(StreamServerError):  # the import itself reports it
                    await self._write(now)
                    written, left_out = now, 0
            else:
                left_out += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), REPORT_SECONDS)

    async def _write(self, progress: Progress) -> None:
        await self.pool.execute(
            "update import_batches set phase = :phase, bytes_read = :bytes,"
            " row_count = :rows, heard_at = clock_timestamp()"
            " where id = :id and status = 'running'",
            {
                "phase": progress.phase,
                "bytes": progress.bytes_read,
                "rows": progress.rows,
                "id": self.id,
            },
        )

    async def complete(self, connection: Queries, *, created: int, updated: int) -> None:
        """Records the success, as the last statement of the import's transaction: the import is
        completed only if that commits."""
        await _end(connection, self, "completed", created=created, updated=updated)

    async def reject(self, error: ImportRejected) -> None:
        await _end(self.pool, self, "rejected", errors=error.rows, error_count=error.count)

    async def fail(self, reason: str) -> None:
        """Records the failure, if the database still answers."""
        with suppress(StreamServerError):
            rows = [RejectedRow(None, None, reason)]
            await _end(self.pool, self, "failed", errors=rows, error_count=0)


async def _end(
    queries: Queries,
    record: ImportRecord,
    status: str,
    *,
    created: int = 0,
    updated: int = 0,
    errors: Sequence[RejectedRow] = (),
    error_count: int = 0,
) -> None:
    await queries.execute(
        "update import_batches set status = :status, phase = :phase, bytes_read = :bytes,"
        " row_count = :rows, created_count = :created, updated_count = :updated,"
        " error_count = :error_count, errors = cast(:errors as jsonb),"
        " finished_at = clock_timestamp()"
        " where id = :id and status = 'running'",
        {
            "status": status,
            "phase": record.progress.phase,
            "bytes": record.progress.bytes_read,
            "rows": record.progress.rows,
            "created": created,
            "updated": updated,
            "error_count": error_count,
            "errors": json.dumps([asdict(row) for row in errors[:MAX_KEPT_ERRORS]]),
            "id": record.id,
        },
    )


async def find_import(queries: Queries, import_id: int) -> Row:
    """Returns the record of an import with decoded `errors`. Raises ImportNotFound."""
    row = await queries.fetch_one(
        f"select {COLUMNS} from import_batches where id = :id",  # noqa: S608  # our own names
        {"id": import_id},
    )
    if row is None:
        raise ImportNotFound(import_id)
    return _decode(row)


async def list_imports(queries: Queries, *, before: int, limit: int) -> list[Row]:
    """Returns the records with ids below `before` without their errors, the newest first."""
    rows = await queries.fetch_all(
        f"select {COLUMNS} from import_batches"  # noqa: S608  # our own names
        " where id < cast(:before as bigint)"
        " order by id desc limit :limit",
        {"before": before, "limit": limit},
    )
    return [{**row, "errors": []} for row in rows]


async def close_abandoned(pool: AnyPool, *, patience: float = PATIENCE_SECONDS) -> int:
    """Marks `running` records as failed if no transaction holds their lock; returns their number.

    Skips imports without news for less than `patience` seconds: they may be about to take the lock.
    """

    async def work(connection: Queries) -> int:
        running = await connection.fetch_all(
            "select id from import_batches where status = 'running'"
            " and heard_at < clock_timestamp() - make_interval(secs => :patience)"
            " order by id for update skip locked",
            {"patience": patience},
        )
        closed = 0
        for row in running:
            if await connection.fetch_val(
                "select pg_try_advisory_xact_lock(:lock, cast(:id as integer))",
                {"lock": LOCK, "id": row["id"]},
            ):
                error = RejectedRow(None, None, "The process of the import has died; import again")
                await connection.execute(
                    "update import_batches set status = 'failed', finished_at = clock_timestamp(),"
                    " errors = cast(:errors as jsonb) where id = :id",
                    {"id": row["id"], "errors": json.dumps([asdict(error)])},
                )
                closed += 1
        return closed

    return await in_transaction(pool, work)


def _decode(row: Row) -> dict[str, Any]:
    errors = row["errors"]
    return {**row, "errors": json.loads(errors) if isinstance(errors, str) else errors}
