"""Alerts about payments whose request ended in an error: somebody paid, without any effect."""

import logging
from contextlib import suppress

from starlette.requests import Request

from stream_server.database.shares import Work
from stream_server.errors import StreamServerError
from stream_server.inventory import alerts
from stream_server.web import state

__all__ = ["alert_failure", "code_of", "message_of"]

logger = logging.getLogger(__name__)


async def alert_failure(request: Request, what: str, source: str, message: str) -> None:
    """Opens an alert about a payment, unless the database fails at that, too. `what` is one of
    `metrics.PAYMENT_TROUBLES`."""
    metrics = state.metrics(request)
    metrics.payment_troubles.labels(what).inc()
    logger.error("%s", message)
    with suppress(StreamServerError):
        await alerts.payment_failed(state.pool_for(request, Work.SELLING), source, message)


def code_of(error: Exception) -> str:
    """Returns the error's code; `internal_error` for an error that is not ours."""
    return error.code if isinstance(error, StreamServerError) else "internal_error"


def message_of(error: Exception) -> str:
    """Returns the error's message. For an error that is not ours, returns only its type: its
    message may contain a secret."""
    return error.message if isinstance(error, StreamServerError) else type(error).__name__
