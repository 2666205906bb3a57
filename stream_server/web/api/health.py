"""Health, readiness and metrics, for the people and machines that operate the service."""

import asyncio
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from stream_server.errors import DatabaseError
from stream_server.web import state
from stream_server.web.answers import failure, success
from stream_server.web.limits import PAGE, limits_of
from stream_server.web.routing import Resource

__all__ = ["ops_routes"]

ASKING_SECONDS: Final = 2.0  # how long /readyz waits for Postgres


def ops_routes() -> list[Resource]:
    """Returns the routes of health, readiness and metrics."""
    return [
        Resource("/healthz", GET=_healthz),
        Resource("/readyz", GET=_readyz),
        Resource("/metrics", GET=_metrics),
    ]


async def _healthz(_: Request) -> Response:
    """Answers 200 while the process and its event loop run."""
    return success({"status": "ok"})


async def _readyz(request: Request) -> Response:
    """Answers 200 if new clients may come: the hub is live, and Postgres accepts orders."""
    limits_of(request).check_query(request)
    hub = state.hub(request)
    if state.is_draining(request) or request.app.state.is_leaving:
        return failure(503, "shutting_down", "The server is shutting down")
    if not hub.is_live:
        known = "still has the last known state" if hub.is_loaded else "has read nothing yet"
        because = f" ({reason})" if (reason := request.app.state.waits_because) else ""
        return failure(
            503, "source_lost", f"The server does not follow Postgres; it {known}{because}"
        )
    try:
        async with asyncio.timeout(ASKING_SECONDS):
            trouble = await state.pool(request).find_trouble()
    except TimeoutError:
        trouble = f"Postgres has not answered for {ASKING_SECONDS:g} s"
    except DatabaseError as error:
        trouble = error.message
    if trouble:
        return failure(503, "database_unavailable", trouble, headers={"Retry-After": "1"})
    return success({"status": "ready", "products": len(hub.entries)})


async def _metrics(request: Request) -> Response:
    """Answers with the metrics in Prometheus' format."""
    limits_of(request).check_request(request.scope, PAGE)
    hub = state.hub(request)
    text = state.metrics(request).render(
        open_streams=hub.open_streams,
        products=len(hub.entries),
        waiting_polls=len(hub.waiters),
    )
    return Response(text, media_type=CONTENT_TYPE_LATEST)
