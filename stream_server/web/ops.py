"""For people and machines that operate the service: health, readiness, metrics (R30)."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from stream_server.streaming.frames import to_json
from stream_server.streaming.hub import Hub
from stream_server.web.envelope import failure, success
from stream_server.web.routing import Resource


def ops_routes() -> list[Resource]:
    """Health, readiness and metrics."""
    return [
        Resource("/healthz", GET=_healthz),
        Resource("/readyz", GET=_readyz),
        Resource("/metrics", GET=_metrics),
    ]


async def _healthz(_: Request) -> Response:
    """The process runs and its loop turns."""
    return success(to_json({"status": "ok"}))


async def _readyz(request: Request) -> Response:
    """New clients may be sent here."""
    hub: Hub = request.app.state.hub
    if request.app.state.is_draining:
        return failure(503, "shutting_down", "The server is shutting down")
    if not hub.is_live:
        known = "still has the last state known" if hub.is_loaded else "has read nothing yet"
        return failure(503, "source_lost", f"The server does not follow Postgres; it {known}")
    if not request.app.state.pool.is_connected:
        return failure(503, "database_unavailable", "The server is about to connect to Postgres")
    return success(to_json({"status": "ready", "products": len(hub.entries)}))


async def _metrics(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    text = request.app.state.metrics.render(
        open_streams=hub.open_streams, products=len(hub.entries)
    )
    return Response(text, media_type=CONTENT_TYPE_LATEST)
