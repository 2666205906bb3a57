"""Requests that are no HTTP that is served: what is checked of a head, and what is answered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

__all__ = ["MAX_HEAD", "MAX_HEADERS", "Refusal", "check_head", "in_origin_form", "is_host"]

MAX_HEAD: Final = 65_536  # bytes, of the request line and all headers
MAX_HEADERS: Final = 128

_CODES: Final = {
    408: "request_timeout",
    414: "uri_too_long",
    431: "headers_too_large",
    500: "internal_error",
    501: "not_implemented",
    505: "http_version_not_supported",
}

# RFC 3986, section 3.2: a name, an IPv4 address or an IPv6 address in brackets; then the port.
# Empty where the target has no authority (RFC 9112, section 3.2).
_HOST: Final = re.compile(rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[\w.~!$&'()*+,;=%-]*)(?::[0-9]*)?")
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


class Refusal(Exception):
    """A request is answered with this error, and its connection ends."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def answer(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The whole response in the one shape of the API's errors, with these headers, too."""
        code = _CODES.get(self.status, "invalid_http")
        error = {"code": code, "message": self.message}
        body = json.dumps({"success": False, "error": error}, separators=(",", ":")).encode()
        lines = [
            b"HTTP/1.1 %d %b" % (self.status, HTTPStatus(self.status).phrase.encode()),
            *(b"%b: %b" % header for header in headers),
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"connection: close",
            b"",
            body,
        ]
        return b"\r\n".join(lines)


def is_host(value: bytes) -> bool:
    """Whether a Host header's value may be one (RFC 9110, section 7.2)."""
    return _HOST.fullmatch(value) is not None


def check_head(version: str, hosts: int, transfer_codings: list[bytes]) -> None:
    """Raises a Refusal of a head that HTTP forbids and the parser lets pass.

    `version` as "1.1"; the number of Host headers; the values of Transfer-Encoding.
    """
    if not version.startswith("1."):
        raise Refusal(505, f"HTTP/{version} is not spoken here, but HTTP/1.1 is")
    if hosts > 1 or (hosts == 0 and version != "1.0"):
        raise Refusal(400, f"A request has one Host header, and this has {hosts or 'none'}")
    if not transfer_codings:
        return
    if version == "1.0":  # RFC 9112, section 6.1
        raise Refusal(400, "HTTP/1.0 knows no Transfer-Encoding")
    codings = [each.strip().lower() for value in transfer_codings for each in value.split(b",")]
    if any(each != b"chunked" for each in codings):
        raise Refusal(501, "The only Transfer-Encoding that is understood is chunked")
    if len(codings) > 1:
        raise Refusal(400, "A body is chunked once at most")


def in_origin_form(target: bytes) -> bytes:
    """A request's target without scheme and authority (RFC 9112, section 3.2.2)."""
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return target
    path = target[absolute.end() :]
    return path if path.startswith(b"/") else b"/" + path
