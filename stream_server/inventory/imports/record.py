"""The record of each import: whose file it was, how far it is, and how it ended (`import_batches`).

Its row is written beside the import's own transaction, so that others see the progress; only the
end of a good one is part of it. A process that dies leaves its row `running`: `close_abandoned`
notices that nobody holds the import's lock any more.
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
MAX_KEPT_ERRORS: Final = 1000  # in the row; whoever runs the import gets all that were found
REPORT_SECONDS: Final = 0.5
MAX_SKIPPED_REPORTS: Final = 20  # reports in a row, while there is nothing new
PATIENCE_SECONDS: Final = 60  # a younger import may not have taken its lock yet

COLUMNS: Final = """
    id, name, format, sha256, size_bytes, actor, reason, is_dry_run, status, phase, bytes_read,
    row_count, created_count, updated_count, error_count, errors, started_at, finished_at
"""


@dataclass(slots=True)
class Progress:
    """How far an import is. Phases: reading, checking, writing."""

    import_id: int
    size: int
    phase: str = "reading"
    bytes_read: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class ImportRecord:
    """One import while it runs."""

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
        """Say, until the transaction ends, that somebody works on this.

        Raises TransactionConflict if it has been closed as abandoned before.
        """
        await connection.execute(
            "select pg_advisory_xact_lock(:lock, cast(:id as integer))",
            {"lock": LOCK, "id": self.id},
        )
        status = await connection.fetch_val(
            "select status from import_batches where id = :id", {"id": self.id}
        )
        if status != "running":
            raise TransactionConflict("It had to wait for so long that it was given up; try again")

    @asynccontextmanager
    async def reported(self, tell: Callable[[Progress], None] | None) -> AsyncIterator[None]:
        """Keep the row up to date while the block runs, and tell whoever asked.

        Takes a connection of its own for each update; in a pool of one the row stays behind. While
        there is nothing new, because the import waits, it is updated every ten seconds.
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
                with suppress(StreamServerError):  # the import itself will say it
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
        """The import's own last statement: it is done if, and only if, its transaction commits."""
        await _end(connection, self, "completed", created=created, updated=updated)

    async def reject(self, error: ImportRejected) -> None:
        await _end(self.pool, self, "rejected", errors=error.rows, error_count=error.count)

    async def fail(self, reason: str) -> None:
        """Note that it broke off, if the database can still be told."""
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
    """An import by its id, `errors` decoded. Raises ImportNotFound."""
    row = await queries.fetch_one(
        f"select {COLUMNS} from import_batches where id = :id",  # noqa: S608  # our own names
        {"id": import_id},
    )
    if row is None:
        raise ImportNotFound(import_id)
    return _decode(row)


async def list_imports(queries: Queries, *, before: int, limit: int) -> list[Row]:
    """The newest imports, without their errors, from before the one with the id `before` on."""
    rows = await queries.fetch_all(
        f"select {COLUMNS} from import_batches"  # noqa: S608  # our own names
        " where id < cast(:before as bigint)"
        " order by id desc limit :limit",
        {"before": before, "limit": limit},
    )
    return [{**row, "errors": []} for row in rows]


async def close_abandoned(pool: AnyPool, *, patience: float = PATIENCE_SECONDS) -> int:
    """Mark as failed what says `running` though no transaction holds its lock; gives the number.

    Imports younger than `patience` seconds are left alone: they may be about to take it.
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
                error = RejectedRow(None, None, "The process that ran it is gone")
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
