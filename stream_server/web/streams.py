"""Inventory as Server-Sent Events (R11, R12): of one product, of several, of the catalogue."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp

from stream_server.errors import ProductNotFound
from stream_server.streaming.hub import Hub
from stream_server.streaming.source import Source
from stream_server.streaming.stream import StreamResponse
from stream_server.web import inputs
from stream_server.web.inventory import loaded_hub
from stream_server.web.routing import Resource


def stream_routes() -> list[Resource]:
    """The stream routes. They find the hub and the source in `request.app.state`."""
    return [
        Resource("/api/inventory/stream", GET=_stream_several),
        Resource("/api/inventory/{product_id}/stream", GET=_stream_one),
    ]


async def _stream_one(request: Request) -> ASGIApp:
    product_id = request.path_params["product_id"]
    if loaded_hub(request).public(product_id) is None:
        raise ProductNotFound(product_id)
    return await _stream(request, frozenset((product_id,)))


async def _stream_several(request: Request) -> ASGIApp:
    ids = inputs.product_ids_in_query(request)
    return await _stream(request, None if ids is None else frozenset(ids))


async def _stream(request: Request, ids: frozenset[str] | None) -> ASGIApp:
    hub = loaded_hub(request)
    if request.app.state.is_draining:
        raise HTTPException(503, "The server is shutting down", headers={"Retry-After": "2"})
    # A page that makes a new EventSource cannot set the header, so the query can carry it.
    last_event_id = inputs.header(request, b"last-event-id")
    if not last_event_id and request.scope["query_string"]:
        last_event_id = request.query_params.get("lastEventId")
    if last_event_id and hub.is_ahead(last_event_id):
        await _catch_up(request.app.state.source, hub)
    return StreamResponse(hub, ids, last_event_id)


async def _catch_up(source: Source, hub: Hub) -> None:
    """The client comes from a process that has read further: read once more before judging."""
    if hub.is_live:
        await source.refresh()
