"""Compression of public JSON, for clients that accept gzip.

Only answers that everybody may read are compressed. If an answer held a secret beside text that an
attacker chose, its compressed size would reveal the secret.
"""

import zlib
from functools import lru_cache
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from stream_server.web.encodings import accepts_gzip
from stream_server.web.routing import Endpoint

__all__ = ["compress_answers"]

_MIN_SIZE: Final = 1024  # bytes: a smaller answer fits in one packet anyway
_MAX_CACHED: Final = 65_536  # bytes of an answer whose compressed form is kept


def compress_answers(endpoint: Endpoint) -> Endpoint:
    """Wraps an endpoint: its larger answers are compressed."""

    async def answer(request: Request) -> ASGIApp:
        response = await endpoint(request)
        if isinstance(response, Response) and len(response.body) >= _MIN_SIZE:
            _compress(request, response)
        return response

    return answer


def _compress(request: Request, response: Response) -> None:
    response.headers.add_vary_header("Accept-Encoding")
    if accepts_gzip(request):
        body = bytes(response.body)
        response.body = (_gzip_once if len(body) <= _MAX_CACHED else _gzip)(body)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(response.body))


def _gzip(body: bytes) -> bytes:
    return zlib.compress(body, 1, wbits=31)


# Keyed by the content: never stale, and each version is compressed once.
_gzip_once = lru_cache(maxsize=128)(_gzip)
