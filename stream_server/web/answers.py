"""The shape that all JSON answers share.

{"success": true, "data": …}
{"success": false, "error": {"code": "…", "message": "…", "details": …}}
"""

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from stream_server.streaming.frames import to_json

__all__ = ["MEDIA_TYPE", "failure", "success", "success_json"]

MEDIA_TYPE: Final = "application/json"


def success(
    data: object,
    *,
    beside: Mapping[str, object] | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Returns a successful answer. `beside` holds more fields next to `data`."""
    return success_json(to_json(data), beside=beside, status=status, headers=headers)


def success_json(
    data: bytes,
    *,
    beside: Mapping[str, object] | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Like `success`, for data that are JSON already, such as the hub's of a product."""
    more = b"".join(
        b",%b:%b" % (to_json(name), to_json(value)) for name, value in (beside or {}).items()
    )
    body = b'{"success":true,"data":%b%b}' % (data, more)
    return Response(body, status, headers, MEDIA_TYPE)


def failure(
    status: int,
    code: str,
    message: str,
    details: object = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Returns an error answer. It has no `details` field if `details` is empty."""
    error: dict[str, object] = {"code": code, "message": message}
    if details:
        error["details"] = details
    return Response(to_json({"success": False, "error": error}), status, headers, MEDIA_TYPE)
