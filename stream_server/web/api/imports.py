"""Bulk imports by admins. The body of the request is the file, in JSON or CSV (docs/importing.md).

An import runs in this process, but not in its request. The request answers with the result or,
after `?wait=` seconds, with the address of the result. Shutdown cancels a running import, which
then changes nothing.
"""

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
from stream_server.web import inputs, state
from stream_server.web.answers import success
from stream_server.web.auth import require_role
from stream_server.web.links import link
from stream_server.web.product_json import optional_timestamp, timestamp
from stream_server.web.routing import Operation, Resource
from stream_server.web.writes import refuse_foreign

__all__ = ["ImportTasks", "import_routes"]

MEDIA_TYPES: Final = {
    "application/json": "json",
    "text/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/vnd.ms-excel": "csv",  # browsers on Windows send this for .csv
}
IN_MEMORY: Final = 1024 * 1024  # bytes; a larger file is kept on disk
WAIT: Final = 10.0  # seconds, by default
MAX_WAIT: Final = 60.0
_PRIVATE: Final = {"Cache-Control": "no-store"}


class ImportTasks:
    """The imports of this process. They run one at a time, which `turn` ensures. A waiting import
    holds no connection, so imports cannot drain the pool."""

    def __init__(self) -> None:
        self.turn: Final = asyncio.Lock()
        self._tasks: set[asyncio.Task[ImportResult]] = set()

    def start(self, work: Coroutine[Any, Any, ImportResult]) -> asyncio.Task[ImportResult]:
        """Starts an import as a task, and keeps a reference to the task until it ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # see its row
        return task

    async def stop(self) -> None:
        """Cancels all imports, and waits until they have rolled back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def import_routes() -> list[Resource]:
    """Returns the routes of imports. They need the pool and the tasks in `request.app.state`."""
    names = ("dryRun", "name", "format", "reason", "wait")
    receiving = Operation(_import, *names, guard=refuse_foreign)
    return [
        Resource("/api/admin/imports", GET=Operation(_list, "limit", "before"), POST=receiving),
        Resource("/api/admin/imports/{import_id}", GET=_show),
    ]


async def _import(request: Request) -> Response:
    """Imports the body. Takes `?dryRun=true`, `?name=` of the file, `?format=json|csv` (by default,
    that of the Content-Type), `?reason=` and `?wait=` seconds. Answers 200 if it is done, 422 with
    the mistakes if it is rejected, 202 while it runs."""
    identity = require_role(request, "admin")
    inputs.refuse_wrapped(request)
    format_name = _format(request)
    name = inputs.text(request.query_params.get("name", "upload"), "name")
    reason = inputs.text(request.query_params.get("reason", f"import of {name}"), "reason", 1000)
    dry_run = inputs.flag_in_query(request, "dryRun")
    wait = inputs.number_in_query(request, "wait", default=WAIT, min_value=0, max_value=MAX_WAIT)
    file = await _receive(request)
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
    either: set[asyncio.Future[Any]] = {task, began}  # of different types
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({task}, timeout=wait)
    if task.done():
        if task.cancelled():
            raise HTTPException(503, "The server is shutting down; nothing was changed")
        task.result()  # raises the error of the import, such as the mistakes in the file
    import_id = began.result()
    record = _import_data(await find_import(state.pool(request), import_id))
    if task.done():
        return success(record, headers=_PRIVATE)
    place = link(request, f"/api/admin/imports/{import_id}")
    return success(record, status=202, headers={**_PRIVATE, "Location": place})


async def _list(request: Request) -> Response:
    """Lists imports, the newest first. Takes `?limit=` and `?before=` (the last `next`)."""
    require_role(request, "admin")
    limit = inputs.whole_in_query(request, "limit", default=50, min_value=1, max_value=500)
    before = inputs.whole_in_query(
        request,
        "before",
        default=inputs.MAX_BIG_INTEGER,
        min_value=0,
        max_value=inputs.MAX_BIG_INTEGER,
    )
    rows = await list_imports(state.pool(request), before=before, limit=limit + 1)
    following = rows[limit - 1]["id"] if len(rows) > limit else None
    data = [_import_data(row) for row in rows[:limit]]
    return success(data, beside={"next": following}, headers=_PRIVATE)


async def _show(request: Request) -> Response:
    """Answers with the progress or the result of an import, and its first mistakes."""
    require_role(request, "admin")
    pool = state.pool(request)
    record = await find_import(pool, inputs.whole_in_path(request, "import_id", "importId"))
    return success(_import_data(record), headers=_PRIVATE)


def _format(request: Request) -> str:
    """Returns the format of the file, from `?format=` or else from Content-Type."""
    given = request.query_params.get("format")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    format_name = MEDIA_TYPES.get(media_type, "") if given is None else given
    if given is not None and given not in FORMATS:
        raise InvalidRequest("format", "json or csv")
    if format_name not in FORMATS:
        raise InvalidRequest("Content-Type", "application/json or text/csv")
    return format_name


async def _receive(request: Request) -> BinaryIO:
    """Writes the body to a temporary file. Raises HTTPException 413 if it exceeds IMPORT_MAX_MB."""
    max_size = state.settings(request).import_max_mb * 1024 * 1024
    too_large = HTTPException(413, f"The file is larger than {max_size} bytes")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > max_size:
        raise too_large
    file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  # the import closes it
    try:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > max_size:
                raise too_large
            file.write(part)
    except BaseException:
        file.close()
        raise
    return file  # type: ignore[return-value]  # it has the methods of one


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
