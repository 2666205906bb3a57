"""The response of a stream: the same bytes on the connection itself or through any ASGI server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import anyio
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from stream_server.streaming.connection import EXTENSION, Handover
from stream_server.streaming.frames import Frame
from stream_server.streaming.hub import Hub
from stream_server.streaming.subscriber import Place, Subscriber

_HIGH_WATER = 65_536  # bytes buffered for a client before the subscriber only remembers

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
}
HEAD = EventSourceResponse(iter(()), headers=HEADERS)


class StreamResponse:
    """An ASGI application that streams some products (`ids` None: the whole catalogue). `enter` is
    called when the stream opens, and gives the place that it leaves when it ends."""

    def __init__(
        self,
        hub: Hub,
        ids: frozenset[str] | None,
        last_event_id: str | None = None,
        enter: Callable[[], Place] | None = None,
    ) -> None:
        self._enter = enter
        self._hub = hub
        self._ids = ids
        self._last_event_id = last_event_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
                "status": HEAD.status_code,
                "headers": HEAD.raw_headers,
            }
        )

    async def _take_over(self, handover: Handover, send: Send) -> None:
        handover.prepare()
        await self._send_head(send)
        connection = handover.take(self._hub)
        if connection is not None:
            self._subscribe(connection)

    def _subscribe(self, subscriber: Subscriber) -> None:
        if self._enter is not None:
            subscriber.place = self._enter()
        self._hub.subscribe(subscriber, self._ids, self._last_event_id)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        subscriber = BodySubscriber(self._hub)
        response = EventSourceResponse(subscriber.body(), headers=HEADERS, ping=0)
        try:
            self._subscribe(subscriber)
            with subscriber.sending:
                await response(scope, receive, send)
        finally:
            # Here and not in the generator, which may never have been started.
            self._hub.unsubscribe(subscriber)


class BodySubscriber(Subscriber):
    """A subscriber that is the body of an ASGI response."""

    __slots__ = ("_has_ended", "_parts", "_size", "_wake", "sending")

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self._parts: list[bytes] = []
        self._size = 0
        self._wake = asyncio.Event()
        self._has_ended = False
        self.sending = anyio.CancelScope()

    def write(self, frame: Frame) -> None:
        self._parts.append(frame.body)
        self._size += len(frame.body)
        self._wake.set()
        if self._size > _HIGH_WATER and not self.is_full:
            self.pause()

    def end(self) -> None:
        self.hub.unsubscribe(self)
        self._has_ended = True
        self._wake.set()

    def abort(self) -> None:
        self._parts.clear()
        self.end()
        self.sending.cancel()  # else it waits for a client that reads nothing

    async def body(self) -> AsyncIterator[bytes]:
        """What is written, until the stream ends."""
        while not (self._has_ended and not self._parts):
            await self._wake.wait()
            self._wake.clear()
            while self._parts:
                data = b"".join(self._parts)
                self._parts.clear()
                yield data  # returns when the server has taken it
                self._size = 0
                if self.is_full and not self._parts:
                    self.resume()
