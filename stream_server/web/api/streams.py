"""Inventory as Server-Sent Events: of one product, of several, or of the whole catalogue."""

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp

from stream_server.errors import ProductNotFound
from stream_server.streaming.hub import Hub
from stream_server.streaming.response import RetryLater, StreamResponse
from stream_server.streaming.source import Source
from stream_server.streaming.subscriber import Place
from stream_server.web import inputs, state
from stream_server.web.addresses import client_host
from stream_server.web.encodings import accepts_gzip
from stream_server.web.limits import IDS_A_REQUEST, QUERY, STREAM_RETRY_MS, limits_of
from stream_server.web.routing import Operation, Resource
from stream_server.web.state import started_hub
from stream_server.web.stream_limits import UnknownIds

__all__ = ["stream_routes"]


def stream_routes() -> list[Resource]:
    """Returns the stream routes. They need the hub and the source in `request.app.state`."""
    return [
        Resource(
            "/api/inventory/stream", GET=Operation(_stream_several, "productIds", "lastEventId")
        ),
        Resource("/api/inventory/{product_id}/stream", GET=Operation(_stream_one, "lastEventId")),
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
    # A page cannot set the header of a new EventSource, so the id may also be in the query.
    last_event_id = inputs.header(request, b"last-event-id")
    if not last_event_id and request.scope["query_string"]:
        last_event_id = request.query_params.get("lastEventId")
    is_ahead = last_event_id is not None and hub.is_ahead(last_event_id)
    shown = len(hub.entries) if ids is None else len(ids)
    try:
        cost = 1 + shown // IDS_A_REQUEST + (QUERY if is_ahead else 0)
        limits_of(request).check_request(request.scope, cost)
    except HTTPException:  # too many requests
        return RetryLater(STREAM_RETRY_MS)
    if is_ahead:
        await _catch_up(state.source(request), hub)
    if state.is_draining(request):
        return RetryLater(hub.retry_ms)
    crowd, host = limits_of(request).streams, client_host(request.scope)
    if crowd.is_full(host):
        state.metrics(request).limited.labels("streams").inc()
        return RetryLater(STREAM_RETRY_MS)
    if not request.app.state.stream_limit.has_room(hub):
        return RetryLater(STREAM_RETRY_MS)
    unknown = 0 if ids is None else sum(each not in hub.entries for each in ids)
    unknown_ids: UnknownIds = request.app.state.unknown_ids
    if unknown and not unknown_ids.has_room(host, unknown):
        state.metrics(request).limited.labels("unknown ids").inc()
        return RetryLater(STREAM_RETRY_MS)
    is_packed = state.settings(request).stream_gzip and accepts_gzip(request)

    def enter() -> Place:
        place = crowd.enter(host)
        return unknown_ids.count(place, host, unknown) if unknown else place

    return StreamResponse(hub, ids, last_event_id, is_packed=is_packed, enter=enter)


async def _catch_up(source: Source, hub: Hub) -> None:
    """Reads the log once more, because the client comes from a process that has read further."""
    if hub.is_live:
        await source.refresh()
