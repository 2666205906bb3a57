"""The content codings that a client accepts (RFC 9110, section 12.5.3)."""

from typing import Final

from starlette.requests import Request

from stream_server.web.weights import weights

__all__ = ["accepts_gzip", "takes_gzip"]

USUAL: Final = frozenset(
    {b"gzip", b"gzip, deflate", b"gzip, deflate, br", b"gzip, deflate, br, zstd"}
)


def accepts_gzip(request: Request) -> bool:
    """Whether the client accepts gzip, and does not prefer an uncompressed answer."""
    lines = [value for name, value in request.scope["headers"] if name == b"accept-encoding"]
    return bool(lines) and takes_gzip(lines[0] if len(lines) == 1 else b",".join(lines))


def takes_gzip(field: bytes) -> bool:
    """Whether the client that sent this Accept-Encoding should get gzip. A member that breaks the
    grammar is ignored: without it, the answer is uncompressed, which every client can read."""
    if field in USUAL:
        return True
    given = weights(field.decode("latin-1"))
    # x-gzip is gzip (section 8.4.1.3); * stands for all codings that the field does not name.
    weight = next((given[name] for name in ("gzip", "x-gzip", "*") if name in given), 0.0)
    return weight > 0 and weight >= given.get("identity", 0)
