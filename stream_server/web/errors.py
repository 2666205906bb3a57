"""The HTTP answer to each error: its status and its code."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from stream_server.errors import (
    AlertNotFound,
    AlreadyExtended,
    DatabaseUnavailable,
    IdempotencyKeyReused,
    ImportNotFound,
    ImportRejected,
    ImpossibleChange,
    InsufficientStock,
    InvalidRequest,
    OrderConflict,
    OrderNotFound,
    ProductNotFound,
    ReservationConverted,
    ReservationEnded,
    ReservationNotFound,
    StreamServerError,
    TransactionConflict,
    VersionConflict,
    WebhookRejected,
)
from stream_server.web.answers import failure

__all__ = ["CODES", "EXCEPTION_HANDLERS", "STATUS", "explain"]

logger = logging.getLogger(__name__)

# The status of a class is also that of its subclasses that are not listed.
STATUS: Final[Mapping[type[StreamServerError], int]] = {
    InvalidRequest: 400,
    WebhookRejected: 400,
    ProductNotFound: 404,
    ReservationNotFound: 404,
    OrderNotFound: 404,
    AlertNotFound: 404,
    ImportNotFound: 404,
    AlreadyExtended: 409,
    ImpossibleChange: 409,
    InsufficientStock: 409,
    OrderConflict: 409,
    ReservationConverted: 409,
    VersionConflict: 409,
    ReservationEnded: 410,
    IdempotencyKeyReused: 422,
    ImportRejected: 422,
    TransactionConflict: 503,
    DatabaseUnavailable: 503,
    StreamServerError: 500,
}
CODES: Final[Mapping[int, str]] = {
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
    503: "unavailable",
}


def explain(error: Exception) -> Response | None:
    """Returns the answer to a known error; None for an unknown error, which is a bug."""
    if isinstance(error, StreamServerError):
        status = next(STATUS[each] for each in type(error).__mro__ if each in STATUS)
        if status >= 500:
            logger.error("%s: %s", error.code, error.message)
        headers = {"Retry-After": "1"} if status == 503 else None
        return failure(status, error.code, error.message, error.details, headers)
    if isinstance(error, ClientDisconnect):
        logger.debug("A client disconnected before its request was complete")
        return failure(400, "client_disconnected", "The request was incomplete")
    if isinstance(error, HTTPException):
        code = CODES.get(error.status_code, "http_error")
        return failure(error.status_code, code, error.detail, headers=error.headers)
    return None


async def _handle(_: Request, error: Exception) -> Response:
    response = explain(error)
    assert response is not None
    return response


async def _handle_unexpected(_: Request, error: Exception) -> Response:
    return failure(500, "internal_error", "The server failed; its log has the error")


EXCEPTION_HANDLERS: Final[Mapping[Any, Any]] = {  # as Starlette types them
    StreamServerError: _handle,
    HTTPException: _handle,
    ClientDisconnect: _handle,
    Exception: _handle_unexpected,
}
