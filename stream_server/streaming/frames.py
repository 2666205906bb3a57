"""The bytes of the wire: Server-Sent Events, and the HTTP/1.1 chunks that carry them.

The format is the HTML standard's, section 9.2.6 ("Interpreting an event stream"): fields a
line each, a blank line dispatches. Data is JSON of one line: json escapes CR, LF and NUL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable


class Frame:
    """One or more whole events, made once and written to every stream that wants them.

    `chunk` is the body as one chunk of `Transfer-Encoding: chunked` (RFC 9112, section 7.1).
    """

    __slots__ = ("body", "chunk")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.chunk = b"%x\r\n%b\r\n" % (len(body), body)


LAST_CHUNK = b"0\r\n\r\n"


def to_json(value: object) -> bytes:
    """JSON of one line, UTF-8, without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def event(
    name: str, data: bytes, *, position: str | None = None, retry_ms: int | None = None
) -> bytes:
    """One event. `data` is one line; the position becomes the client's `Last-Event-ID`, and an
    empty one takes the last from it."""
    parts = [b"event: ", name.encode(), b"\ndata: ", data, b"\n"]
    if position is not None:
        parts += [b"id: ", position.encode(), b"\n"]
    if retry_ms is not None:
        parts.append(b"retry: %d\n" % retry_ms)
    parts.append(b"\n")
    return b"".join(parts)


def with_position(events: bytes, position: str) -> bytes:
    """The same events, the last of which carries the position: a client that gets only some
    of them resumes from where it was before."""
    return b"%bid: %b\n\n" % (events[:-1], position.encode())


def snapshot_data(products: Iterable[bytes], unknown: list[str], live: bool) -> bytes:
    """The data of a `snapshot` event, from products that are JSON already."""
    return b'{"products":[%b],"unknown":%b,"live":%b}' % (
        b",".join(products),
        to_json(unknown) if unknown else b"[]",
        b"true" if live else b"false",
    )
