"""Typed access to the parts that `create_app` puts into the state of the application."""

import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request

from stream_server.database.pool import Pool, Share
from stream_server.database.shares import Work
from stream_server.inventory.reserver import Reserver
from stream_server.inventory.shelf import Shelf
from stream_server.metrics import Metrics
from stream_server.settings import Settings
from stream_server.streaming.hub import Hub
from stream_server.streaming.source import Source

__all__ = [
    "hub",
    "is_draining",
    "loaded_hub",
    "metrics",
    "pool",
    "pool_for",
    "reserver",
    "settings",
    "shelf",
    "source",
    "started_hub",
]

logger = logging.getLogger(__name__)


def settings(request: Request) -> Settings:
    """Returns the settings."""
    found: Settings = request.app.state.settings
    return found


def metrics(request: Request) -> Metrics:
    """Returns the metrics of this process."""
    found: Metrics = request.app.state.metrics
    return found


def pool(request: Request) -> Pool:
    """Returns the pool of connections. Used directly, it is for reads."""
    found: Pool = request.app.state.pool
    return found


def pool_for(request: Request, work: Work) -> Share:
    """Returns the pool's share for one kind of work."""
    return pool(request).doing(work)


def reserver(request: Request) -> Reserver:
    """Returns the reserver, which reserves stock."""
    found: Reserver = request.app.state.reserver
    return found


def shelf(request: Request) -> Shelf:
    """Returns the shelf, which knows the alternatives of products."""
    found: Shelf = request.app.state.shelf
    return found


def source(request: Request) -> Source:
    """Returns the source, which reads the log into the hub."""
    found: Source = request.app.state.source
    return found


def hub(request: Request) -> Hub:
    """Returns the hub in any state: it may be empty or behind."""
    found: Hub = request.app.state.hub
    return found


def started_hub(request: Request) -> Hub:
    """Returns the hub, which is loaded or loading. Raises HTTPException 503 if nothing loads it."""
    state = request.app.state
    if not state.has_started:
        if not (state.is_draining or state.has_complained):
            state.has_complained = True
            logger.error("No request can be answered: %s", state.waits_because)
        raise HTTPException(503, f"Not available: {state.waits_because}")
    return hub(request)


def loaded_hub(request: Request) -> Hub:
    """Returns the hub. Raises HTTPException 503 until it has read the database once."""
    found = started_hub(request)
    if not found.is_loaded:
        raise HTTPException(503, "The inventory is still loading", headers={"Retry-After": "1"})
    return found


def is_draining(request: Request) -> bool:
    """Whether the server is ending its streams before it stops."""
    found: bool = request.app.state.is_draining
    return found
