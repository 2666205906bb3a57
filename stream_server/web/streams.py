"""Inventory as Server-Sent Events (R11, R12): of one product, of several, of the catalogue."""

from __future__ import annotations

import logging
import math
import resource
import time
from functools import partial
from typing import NoReturn

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp

from stream_server.errors import ProductNotFound
from stream_server.streaming.hub import Hub
from stream_server.streaming.source import Source
from stream_server.streaming.stream import StreamResponse
from stream_server.web import inputs
from stream_server.web.addresses import client_host
from stream_server.web.inventory import loaded_hub
from stream_server.web.limits import IDS_A_REQUEST, limits_of
from stream_server.web.routing import Resource

logger = logging.getLogger(__name__)

_SPARE_FILES = 64  # for polls, Postgres and logs; or a twentieth of all
_SECONDS_BETWEEN_WARNINGS = 60.0


class StreamLimit:
    """How many streams may be open at once: each takes one of the process's open files.

    The limit of open files is asked for whenever it seems reached, so that `prlimit` helps
    without a restart.
    """

    def __init__(self) -> None:
        self._streams = 0.0
        self._warned_at = float("-inf")

    def check(self, hub: Hub) -> None:
        """Raises HTTPException 503 if there is no room for one more."""
        streams = sum(hub.open_streams.values())
        if streams < self._streams:
            return
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        is_unlimited = files == resource.RLIM_INFINITY
        self._streams = math.inf if is_unlimited else files - max(_SPARE_FILES, files // 20)
        if streams < self._streams:
            return
        now = time.monotonic()
        if now - self._warned_at > _SECONDS_BETWEEN_WARNINGS:
            self._warned_at = now
            logger.warning(
                "%d streams are open, all that the limit of %d open files has room for; new ones "
                "get a 503. Raise it: ulimit -n, or LimitNOFILE= of a systemd unit",
                streams, files,
            )  # fmt: skip
        refuse_stream()

    def check_address(self, request: Request) -> None:
        """Raises the same if the client's address has as many streams as it may."""
        if limits_of(request).streams.is_full(client_host(request.scope)):
            request.app.state.metrics.limited.labels("streams").inc()
            refuse_stream()


def refuse_stream() -> NoReturn:
    """There is no room for one more. Raises HTTPException 503."""
    raise HTTPException(503, "Too many streams are open", headers={"Retry-After": "5"})


def stream_routes() -> list[Resource]:
    """The stream routes. They find the hub and the source in `request.app.state`."""
    return [
        Resource("/api/inventory/stream", GET=_stream_several),
        Resource("/api/inventory/{product_id}/stream", GET=_stream_one),
    ]


async def _stream_one(request: Request) -> ASGIApp:
    hub = loaded_hub(request)
    product_id = request.path_params["product_id"]
    if hub.public(product_id) is None:
        raise ProductNotFound(product_id)
    return await _stream(request, hub, frozenset((product_id,)))


async def _stream_several(request: Request) -> ASGIApp:
    hub = loaded_hub(request)
    ids = inputs.product_ids_in_query(request)
    shown = len(hub.entries) if ids is None else len(ids)
    limits_of(request).count_request(request.scope, shown // IDS_A_REQUEST)
    return await _stream(request, hub, None if ids is None else frozenset(ids))


async def _stream(request: Request, hub: Hub, ids: frozenset[str] | None) -> ASGIApp:
    # A page that makes a new EventSource cannot set the header, so the query can carry it.
    last_event_id = inputs.header(request, b"last-event-id")
    if not last_event_id and request.scope["query_string"]:
        last_event_id = request.query_params.get("lastEventId")
    if last_event_id and hub.is_ahead(last_event_id):
        await _catch_up(request.app.state.source, hub)
    if request.app.state.is_draining:
        raise HTTPException(503, "The server is shutting down", headers={"Retry-After": "2"})
    request.app.state.stream_limit.check(hub)
    request.app.state.stream_limit.check_address(request)
    enter = partial(limits_of(request).streams.enter, client_host(request.scope))
    return StreamResponse(hub, ids, last_event_id, enter)


async def _catch_up(source: Source, hub: Hub) -> None:
    """The client comes from a process that has read further: read once more before judging."""
    if hub.is_live:
        await source.refresh()
