"""The response of a stream: the same bytes, on uvicorn's connection or through any ASGI server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeAlias
from zlib import crc32

import anyio
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from stream_server.streaming.connection import EXTENSION, Handover
from stream_server.streaming.frames import GZIP_HEAD, Frame, gzip_end
from stream_server.streaming.hub import Hub
from stream_server.streaming.subscriber import Place, Subscriber

__all__ = [
    "HEAD",
    "HEADERS",
    "HELLO",
    "PACKED_HEAD",
    "PACKED_HEADERS",
    "BodySubscriber",
    "GzipBody",
    "RawHeaders",
    "RetryLater",
    "StreamResponse",
]

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]

# The library ends streams after this time. It is longer than our own end of streams takes.
_GRACE_SECONDS: Final = 10.0
_HIGH_WATER: Final = 65_536  # bytes buffered for a client before its subscriber pauses

HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "Vary": "Accept-Encoding",
}
PACKED_HEADERS: Final = {**HEADERS, "Content-Encoding": "gzip"}


def _head(headers: dict[str, str]) -> RawHeaders:
    # The server decides whether a connection is kept (RFC 9110, section 7.6.1).
    response = EventSourceResponse(iter(()), headers=headers)
    return [each for each in response.raw_headers if each[0] != b"connection"]


HEAD: Final = _head(HEADERS)
PACKED_HEAD: Final = _head(PACKED_HEADERS)

# The first bytes of each body, a comment (the HTML standard, 9.2.6). Proxies that compress decide
# by the first bytes that they read, and some then hold back a body of half a kilobyte for ever.
HELLO: Final = Frame(b":\n\n")


class StreamResponse:
    """An ASGI application that streams some products (`ids` None: the whole catalogue).

    With `is_packed` it sends gzip, except over HTTP/1.0, where a client cannot tell a cut stream
    from a complete one. `enter` is called when the stream opens, and returns the place that the
    stream leaves when it ends.
    """

    def __init__(
        self,
        hub: Hub,
        ids: Iterable[str] | None,
        last_event_id: str | None = None,
        *,
        is_packed: bool = False,
        enter: Callable[[], Place] | None = None,
    ) -> None:
        self._enter = enter
        self._hub = hub
        self._ids = ids
        self._last_event_id = last_event_id
        self._is_packed = is_packed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["http_version"] == "1.0":
            self._is_packed = False
        handover = scope.get("extensions", {}).get(EXTENSION)
        if scope["method"] == "HEAD":
            await self._send_head(send)
            await send({"type": "http.response.body", "body": b""})
        elif handover is None:
            await self._respond(scope, receive, send)
        else:
            await self._take_over(handover, send)

    async def _send_head(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": PACKED_HEAD if self._is_packed else HEAD,
            }
        )

    async def _take_over(self, handover: Handover, send: Send) -> None:
        handover.prepare()
        await self._send_head(send)
        connection = handover.take(self._hub, is_packed=self._is_packed)
        if connection is not None:
            connection.write(HELLO)
            self._subscribe(connection)

    def _subscribe(self, subscriber: Subscriber) -> None:
        if self._enter is not None:
            subscriber.place = self._enter()
        self._hub.subscribe(subscriber, self._ids, self._last_event_id)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        subscriber = (GzipBody if self._is_packed else BodySubscriber)(self._hub)
        # The publisher ends streams with a farewell; the library must not end them before that.
        response = EventSourceResponse(
            subscriber.body(), ping=0, shutdown_grace_period=_GRACE_SECONDS
        )
        response.raw_headers = PACKED_HEAD if self._is_packed else HEAD
        try:
            self._subscribe(subscriber)
            with subscriber.sending:
                await response(scope, receive, send)
        finally:
            # Not in the generator, which may never have been started.
            self._hub.unsubscribe(subscriber)


class RetryLater:
    """An ASGI application that asks a stream's client to come back in some seconds.

    Its status is 200. Any other status ends an EventSource for good, and if the connection is
    closed without an answer, a proxy makes such a status of it (the HTML standard, 9.2.3).
    """

    def __init__(self, retry_ms: int) -> None:
        self._body = b"retry: %d\n\n" % int(retry_ms * random.uniform(0.5, 2.5))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*HEAD, (b"content-length", b"%d" % len(self._body))]
        if scope["http_version"] in ("1.0", "1.1"):  # HTTP/2 has no such field
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else self._body
        await send({"type": "http.response.body", "body": body})


class BodySubscriber(Subscriber):
    """A subscriber that is the body of an ASGI response."""

    __slots__ = ("_has_ended", "_parts", "_size", "_wake", "sending")

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self._parts = [self._hello()]
        self._size = 0
        self._wake = asyncio.Event()
        self._has_ended = False
        self.sending = anyio.CancelScope()

    def _hello(self) -> bytes:
        return HELLO.body

    def write(self, frame: Frame) -> None:
        self._put(frame.body)

    def _put(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        self._wake.set()
        if self._size > _HIGH_WATER and not self.is_full:
            self.pause()

    def backlog(self) -> int:
        return self._size

    def end(self) -> None:
        self.hub.unsubscribe(self)
        self._has_ended = True
        self._wake.set()

    def abort(self) -> None:
        self._parts.clear()
        self.end()
        self.sending.cancel()  # otherwise it waits for a client that reads nothing

    async def body(self) -> AsyncIterator[bytes]:
        """The bytes as they are written, until the stream ends."""
        hello, self._parts = self._parts[:1], self._parts[1:]
        yield b"".join(hello)  # in a write of its own
        while not (self._has_ended and not self._parts):
            await self._wake.wait()
            self._wake.clear()
            while self._parts:
                data = b"".join(self._parts)
                self._parts.clear()
                for start in range(0, len(data), _HIGH_WATER):
                    part = data[start : start + _HIGH_WATER]
                    yield part  # returns when the server has taken it
                    self._size = max(0, self._size - len(part))
                if self.is_full and not self._parts:
                    self.resume()


class GzipBody(BodySubscriber):
    """A subscriber that is the body of an ASGI response in gzip."""

    __slots__ = ("_checksum", "_said")

    def __init__(self, hub: Hub) -> None:
        self._checksum = self._said = 0
        super().__init__(hub)

    def _hello(self) -> bytes:
        self._count(HELLO.body)
        return GZIP_HEAD + HELLO.packed

    def write(self, frame: Frame) -> None:
        self._count(frame.body)
        self._put(frame.packed)

    def _count(self, body: bytes) -> None:
        self._checksum = crc32(body, self._checksum)
        self._said += len(body)

    def end(self) -> None:
        if not self._has_ended:
            self._parts.append(gzip_end(self._checksum, self._said))
        super().end()
