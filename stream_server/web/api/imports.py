"""Bulk imports by admins: the file is the body, in JSON or CSV (docs/importing.md).

An import runs in this process, not in its request: the request answers with how it ended or, after
`?wait=` seconds, with where to ask. At shutdown one that runs is broken off, which changes nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from typing import Any, BinaryIO, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stream_server.database.shares import Work
from stream_server.database.transactions import Row
from stream_server.errors import InvalidRequest
from stream_server.inventory.imports.models import ImportRequest, ImportResult
from stream_server.inventory.imports.record import Progress, find_import, list_imports
from stream_server.inventory.imports.run import FORMATS, import_catalogue
from stream_server.streaming.frames import to_json
from stream_server.web import inputs, state
from stream_server.web.answers import success
from stream_server.web.auth import authenticated
from stream_server.web.links import link
from stream_server.web.product_json import optional_timestamp, timestamp
from stream_server.web.routing import Resource, Taking
from stream_server.web.writes import refuse_foreign

__all__ = ["ImportTasks", "import_routes"]

MEDIA_TYPES: Final = {
    "application/json": "json",
    "text/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/vnd.ms-excel": "csv",  # what browsers on Windows call a .csv
}
IN_MEMORY: Final = 1024 * 1024  # bytes; a larger file is kept on disk
WAIT_SECONDS: Final = (10.0, 60.0)  # by default, at most
_PRIVATE: Final = {"Cache-Control": "no-store"}


class ImportTasks:
    """The imports of this process. They run one at a time, by `turn`. Waiting ones hold no
    connection, so they cannot drain the pool."""

    def __init__(self) -> None:
        self.turn: Final = asyncio.Lock()
        self._tasks: set[asyncio.Task[ImportResult]] = set()

    def start(self, work: Coroutine[Any, Any, ImportResult]) -> asyncio.Task[ImportResult]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # is in its row
        return task

    async def stop(self) -> None:
        """Break off those that run, and wait until they have rolled back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def import_routes() -> list[Resource]:
    """The routes of imports. They find the pool and the tasks in `request.app.state`."""
    names = ("dryRun", "name", "format", "reason", "wait")
    receiving = Taking(_import, *names, guard=refuse_foreign)
    return [
        Resource("/api/admin/imports", GET=Taking(_list, "limit", "before"), POST=receiving),
        Resource("/api/admin/imports/{import_id}", GET=_show),
    ]


async def _import(request: Request) -> Response:
    """`?dryRun=true`, `?name=` of the file, `?format=json|csv` (else by Content-Type), `?reason=`,
    `?wait=` seconds. 200 when done, 422 with each mistake when rejected, 202 while it runs."""
    identity = authenticated(request)
    inputs.refuse_wrapped(request)
    format_name = _format(request)
    name = inputs.text(request.query_params.get("name", "upload"), "name")
    reason = inputs.text(request.query_params.get("reason", f"import of {name}"), "reason", 1000)
    dry_run = inputs.flag_in_query(request, "dryRun")
    default, highest = WAIT_SECONDS
    wait = inputs.number_in_query(request, "wait", default=default, lowest=0, highest=highest)
    file = await _received(request)
    tasks: ImportTasks = request.app.state.imports
    began: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def progress(now: Progress) -> None:
        if not began.done():
            began.set_result(now.import_id)

    pool = state.pool(request)

    async def work() -> ImportResult:
        with file:
            return await import_catalogue(
                pool.share_for(Work.CHANGING),
                file,
                ImportRequest(
                    name=name,
                    format_name=format_name,
                    actor=identity.subject,
                    reason=reason,
                    dry_run=dry_run,
                ),
                progress=progress,
                turn=tasks.turn,
            )

    task = tasks.start(work())
    either: set[asyncio.Future[Any]] = {task, began}  # of different kinds
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({task}, timeout=wait)
    if task.done():
        if task.cancelled():
            raise HTTPException(503, "The server is shutting down; nothing was changed")
        task.result()  # raises what it raised: what is wrong with the file, above all
    import_id = began.result()
    record = _import_data(await find_import(state.pool(request), import_id))
    if task.done():
        return success(to_json(record), headers=_PRIVATE)
    place = link(request, f"/api/admin/imports/{import_id}")
    return success(to_json(record), status=202, headers={**_PRIVATE, "Location": place})


async def _list(request: Request) -> Response:
    """The newest first; `?limit=`, `?before=` (the `next` of the page before)."""
    authenticated(request)
    limit = inputs.whole_in_query(request, "limit", default=50, lowest=1, highest=500)
    before = inputs.whole_in_query(
        request, "before", default=inputs.MAX_BIG_INTEGER, lowest=0, highest=inputs.MAX_BIG_INTEGER
    )
    rows = await list_imports(state.pool(request), before=before, limit=limit + 1)
    following = rows[limit - 1]["id"] if len(rows) > limit else None
    data = [_import_data(row) for row in rows[:limit]]
    return success(to_json(data), beside={"next": following}, headers=_PRIVATE)


async def _show(request: Request) -> Response:
    """How far it is, or how it ended, with the first mistakes."""
    authenticated(request)
    pool = state.pool(request)
    record = await find_import(pool, inputs.whole_in_path(request, "import_id", "importId"))
    return success(to_json(_import_data(record)), headers=_PRIVATE)


def _format(request: Request) -> str:
    given = request.query_params.get("format")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    format_name = MEDIA_TYPES.get(media_type, "") if given is None else given
    if format_name not in FORMATS:
        raise InvalidRequest("Content-Type", "application/json or text/csv")
    return format_name


async def _received(request: Request) -> BinaryIO:
    """The body, in a file of its own. Raises HTTPException 413 past IMPORT_MAX_MB."""
    most = state.settings(request).import_max_mb * 1024 * 1024
    too_large = HTTPException(413, f"The file is larger than {most} bytes")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most:
        raise too_large
    file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  # the import closes it
    try:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise too_large
            file.write(part)
    except BaseException:
        file.close()
        raise
    return file  # type: ignore[return-value]  # it is one in all but name


def _import_data(row: Row) -> dict[str, object]:
    return {
        "importId": row["id"],
        "name": row["name"],
        "format": row["format"],
        "sha256": row["sha256"],
        "sizeBytes": row["size_bytes"],
        "actor": row["actor"],
        "reason": row["reason"],
        "dryRun": row["is_dry_run"],
        "status": row["status"],
        "phase": row["phase"],
        "bytesRead": row["bytes_read"],
        "rows": row["row_count"],
        "created": row["created_count"],
        "updated": row["updated_count"],
        "errorCount": row["error_count"],
        "errors": row["errors"],
        "startedAt": timestamp(row["started_at"]),
        "finishedAt": optional_timestamp(row["finished_at"]),
    }
