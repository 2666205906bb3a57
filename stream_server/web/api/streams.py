"""Inventory as Server-Sent Events: of one product, of several, of the catalogue."""

from __future__ import annotations

import logging
import math
import resource
import time
from collections import Counter
from collections.abc import Hashable, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp

from stream_server.errors import ProductNotFound
from stream_server.http.watch import spare_files
from stream_server.streaming.hub import Hub
from stream_server.streaming.response import StreamResponse, TurnedAway
from stream_server.streaming.source import Source
from stream_server.streaming.subscriber import Place
from stream_server.web import inputs, state
from stream_server.web.addresses import client_host, networks
from stream_server.web.encodings import accepts_gzip
from stream_server.web.limits import IDS_A_REQUEST, QUERY, STREAM_RETRY_MS, limits_of
from stream_server.web.routing import Resource, Taking
from stream_server.web.state import started_hub

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_WARNINGS = 60.0


class StreamLimit:
    """How many streams may be open at once: each takes one of the process's open files.

    The limit of open files is asked for whenever it seems reached, so that `prlimit` helps
    without a restart.
    """

    def __init__(self) -> None:
        self._streams = 0.0
        self._warned_at = float("-inf")

    def has_room(self, hub: Hub) -> bool:
        """Whether there is room for one more."""
        streams = sum(hub.open_streams.values())
        if streams < self._streams:
            return True
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        is_unlimited = files == resource.RLIM_INFINITY
        self._streams = math.inf if is_unlimited else files - spare_files(files)
        if streams < self._streams:
            return True
        now = time.monotonic()
        if now - self._warned_at > _SECONDS_BETWEEN_WARNINGS:
            self._warned_at = now
            logger.warning(
                "%d streams are open, all that the limit of %d open files has room for; new ones "
                "are sent away. Raise it: ulimit -n, or LimitNOFILE= of a systemd unit",
                streams, files,
            )  # fmt: skip
        return False


class UnknownIds:
    """How many ids streams show that no product has. Each is a text that is kept for them alone,
    so one address, and all together, may have so many at once."""

    def __init__(self, most_of_one: int = 50_000, most: int = 500_000) -> None:
        self._most_of_one = most_of_one
        self._most = most
        self._total = 0
        self._counts: Counter[Hashable] = Counter()

    def has_room(self, host: str, number: int) -> bool:
        """Whether an address may have so many more."""
        its_own = self._counts[_narrowest(host)]
        return its_own + number <= self._most_of_one and self._total + number <= self._most

    def add(self, host: str, number: int) -> None:
        """So many more; fewer if it is negative."""
        key = _narrowest(host)
        self._total += number
        self._counts[key] += number
        if not self._counts[key]:
            del self._counts[key]


def _narrowest(host: str) -> Hashable:
    return networks(host)[0][0]


class _Counted:
    """The place of a stream that shows unknown ids."""

    __slots__ = ("_host", "_number", "_place", "_unknown")

    def __init__(self, place: Place, unknown: UnknownIds, host: str, number: int) -> None:
        self._place, self._unknown, self._host, self._number = place, unknown, host, number
        unknown.add(host, number)

    def leave(self) -> None:
        """The stream has ended."""
        self._unknown.add(self._host, -self._number)
        self._place.leave()


def stream_routes() -> list[Resource]:
    """The stream routes. They find the hub and the source in `request.app.state`."""
    return [
        Resource("/api/inventory/stream", GET=Taking(_stream_several, "productIds", "lastEventId")),
        Resource("/api/inventory/{product_id}/stream", GET=Taking(_stream_one, "lastEventId")),
    ]


async def _stream_one(request: Request) -> ASGIApp:
    hub = started_hub(request)
    product_id = request.path_params["product_id"]
    if hub.is_loaded and hub.public(product_id) is None:
        raise ProductNotFound(product_id)
    return await _stream(request, hub, (product_id,))


async def _stream_several(request: Request) -> ASGIApp:
    ids = inputs.product_ids_in_query(request)
    return await _stream(request, started_hub(request), ids)


async def _stream(request: Request, hub: Hub, ids: Sequence[str] | None) -> ASGIApp:
    # A page that makes a new EventSource cannot set the header, so the query can carry it.
    last_event_id = inputs.header(request, b"last-event-id")
    if not last_event_id and request.scope["query_string"]:
        last_event_id = request.query_params.get("lastEventId")
    is_ahead = last_event_id is not None and hub.is_ahead(last_event_id)
    shown = len(hub.entries) if ids is None else len(ids)
    try:
        cost = 1 + shown // IDS_A_REQUEST + (QUERY if is_ahead else 0)
        limits_of(request).count_request(request.scope, cost)
    except HTTPException:  # too many requests
        return TurnedAway(STREAM_RETRY_MS)
    if is_ahead:
        await _catch_up(state.source(request), hub)
    if state.is_draining(request):
        return TurnedAway(hub.retry_ms)
    crowd, host = limits_of(request).streams, client_host(request.scope)
    if crowd.is_full(host):
        state.metrics(request).limited.labels("streams").inc()
        return TurnedAway(STREAM_RETRY_MS)
    if not request.app.state.stream_limit.has_room(hub):
        return TurnedAway(STREAM_RETRY_MS)
    unknown = 0 if ids is None else sum(each not in hub.entries for each in ids)
    if unknown and not request.app.state.unknown_ids.has_room(host, unknown):
        state.metrics(request).limited.labels("unknown ids").inc()
        return TurnedAway(STREAM_RETRY_MS)
    is_packed = state.settings(request).stream_gzip and accepts_gzip(request)

    def enter() -> Place:
        place = crowd.enter(host)
        counts = request.app.state.unknown_ids
        return _Counted(place, counts, host, unknown) if unknown else place

    return StreamResponse(hub, ids, last_event_id, is_packed=is_packed, enter=enter)


async def _catch_up(source: Source, hub: Hub) -> None:
    """The client comes from a process that has read further: read once more before judging."""
    if hub.is_live:
        await source.refresh()
