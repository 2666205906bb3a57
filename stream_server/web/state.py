"""What a request finds in its application: the parts that `create_app` has put into its state."""

from __future__ import annotations

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
    """The settings."""
    found: Settings = request.app.state.settings
    return found


def metrics(request: Request) -> Metrics:
    """The metrics of this process."""
    found: Metrics = request.app.state.metrics
    return found


def pool(request: Request) -> Pool:
    """The pool of connections; asked directly, it reads."""
    found: Pool = request.app.state.pool
    return found


def pool_for(request: Request, work: Work) -> Share:
    """The pool, for one kind of work."""
    return pool(request).share_for(work)


def reserver(request: Request) -> Reserver:
    """What reserves stock."""
    found: Reserver = request.app.state.reserver
    return found


def shelf(request: Request) -> Shelf:
    """The alternatives of products."""
    found: Shelf = request.app.state.shelf
    return found


def source(request: Request) -> Source:
    """What reads the log into the hub."""
    found: Source = request.app.state.source
    return found


def hub(request: Request) -> Hub:
    """The hub, whatever state it is in."""
    found: Hub = request.app.state.hub
    return found


def started_hub(request: Request) -> Hub:
    """The hub, which is loaded or being loaded. Raises HTTPException 503 if nobody loads it."""
    state = request.app.state
    if not state.has_started:
        if not (state.is_draining or state.has_complained):
            state.has_complained = True
            logger.error("No request can be answered: %s", state.waits_because)
        raise HTTPException(503, f"Not available: {state.waits_because}")
    return hub(request)


def loaded_hub(request: Request) -> Hub:
    """The hub. Raises HTTPException 503 until it has read the database for the first time."""
    found = started_hub(request)
    if not found.is_loaded:
        raise HTTPException(503, "The inventory is being loaded", headers={"Retry-After": "1"})
    return found


def is_draining(request: Request) -> bool:
    """Whether the server ends its streams, because it is about to stop."""
    found: bool = request.app.state.is_draining
    return found
