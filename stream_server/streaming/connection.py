"""Streams straight on the connection, under uvicorn.

uvicorn gets `StreamProtocol` as its `http` setting. The protocol offers the application an entry in
the ASGI scope's `extensions`; a stream's response sends its head through ASGI as usual and then
takes the connection over. Only a transport and a subscriber are left of the request: no task, no
parser, no scope. Without the entry, the same stream is an ordinary ASGI response.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final, cast
from weakref import ref
from zlib import crc32

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from stream_server.http.protocol import HttpProtocol, unread_by_client
from stream_server.streaming.frames import GZIP_HEAD, LAST_CHUNK, Frame, chunk_of, gzip_end
from stream_server.streaming.hub import Hub
from stream_server.streaming.subscriber import Subscriber

__all__ = [
    "EXTENSION",
    "GzipConnection",
    "Handover",
    "PlainConnection",
    "StreamConnection",
    "StreamProtocol",
]

EXTENSION: Final = "stream_server.connection"

_IGNORED_BYTES: Final = 65_536  # of a client that goes on sending; after them it is cut off


class StreamConnection(asyncio.Protocol, Subscriber):
    """A subscriber that writes chunks to a transport of its own.

    The transport's high-water mark is 0: it reports that it is full as soon as it buffers a single
    byte. So while the subscriber is up to date, the transport's buffer is empty, and `send` may
    write to the socket itself, which costs a third of a transport's write. Under TLS everything
    goes through the transport, whose marks stay as they are.
    """

    __slots__ = ("_fd", "_head", "_received", "_transport")

    def __init__(self, hub: Hub, transport: asyncio.Transport, head: bytes) -> None:
        Subscriber.__init__(self, hub)
        self._transport = transport
        self._head = head  # is sent with the first frame
        self._received = 0
        self._fd = -1
        if transport.get_extra_info("sslcontext") is None:
            self._fd = transport.get_extra_info("socket").fileno()
            transport.set_write_buffer_limits(0)
            if transport.get_write_buffer_size():  # an earlier answer was not read yet
                self.pause()

    def write(self, frame: Frame) -> None:
        self._write(frame.chunk)

    def _write(self, data: bytes) -> None:
        head, self._head = self._head, b""
        self._transport.write(head + data if head else data)

    def send(self, frame: Frame) -> None:
        self._send(frame.chunk)

    def _send(self, chunk: bytes) -> None:
        try:
            sent = os.write(self._fd, chunk)
        except OSError:  # full, lost, or encrypted: the transport knows what to do
            self._transport.write(chunk)
        else:
            if sent < len(chunk):
                self._transport.write(chunk[sent:])

    def backlog(self) -> int:
        return unread_by_client(self._transport)

    def end(self) -> None:
        self.hub.unsubscribe(self)
        self._write(LAST_CHUNK)
        self._transport.close()

    def abort(self) -> None:
        self.hub.unsubscribe(self)
        self._transport.abort()

    # asyncio.Protocol

    def pause_writing(self) -> None:
        self.pause()

    def resume_writing(self) -> None:
        self.resume()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > _IGNORED_BYTES:
            self.abort()

    def eof_received(self) -> None:
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        # asyncio calls this before it closes the socket, so `send` never finds its number reused.
        self.hub.unsubscribe(self)


class GzipConnection(StreamConnection):
    """For clients that accept gzip. Frames are deflated once for all of them; each connection
    keeps only the checksum and the size that end its stream in order."""

    __slots__ = ("_checksum", "_size")

    def __init__(self, hub: Hub, transport: asyncio.Transport, head: bytes) -> None:
        self._checksum = self._size = 0
        super().__init__(hub, transport, head + chunk_of(GZIP_HEAD))

    def write(self, frame: Frame) -> None:
        body = frame.body
        self._checksum = crc32(body, self._checksum)
        self._size += len(body)
        self._write(frame.packed_chunk)

    def send(self, frame: Frame) -> None:
        body = frame.body
        self._checksum = crc32(body, self._checksum)
        self._size += len(body)
        self._send(frame.packed_chunk)

    def end(self) -> None:
        self.hub.unsubscribe(self)
        self._write(chunk_of(gzip_end(self._checksum, self._size)) + LAST_CHUNK)
        self._transport.close()


class PlainConnection(StreamConnection):
    """For HTTP/1.0, which has no chunks: the end of the connection ends the body."""

    __slots__ = ()

    def write(self, frame: Frame) -> None:
        self._write(frame.body)

    def send(self, frame: Frame) -> None:
        self._write(frame.body)

    def end(self) -> None:
        self.hub.unsubscribe(self)
        self._transport.close()


class Handover:
    """The entry in the scope: a connection that the application can take over, once."""

    __slots__ = ("_protocol", "cycle")

    def __init__(self, protocol: StreamProtocol) -> None:
        self._protocol = protocol
        self.cycle: ref[RequestResponseCycle]  # weak: it holds the scope, which holds this

    def prepare(self) -> None:
        """Must be called before the head is sent: the head then announces the right framing, and
        waits for the first frame, so that both are sent in one packet."""
        self._protocol.keep_head(self._living_cycle())

    def take(self, hub: Hub, *, is_packed: bool) -> StreamConnection | None:
        """Gives the connection, once the head was sent; None if the client is gone."""
        return self._protocol.hand_over(self._living_cycle(), hub, is_packed=is_packed)

    def _living_cycle(self) -> RequestResponseCycle:
        cycle = self.cycle()
        assert cycle is not None, "it runs the application that asks"
        return cycle


class _KeptHead:
    """Stands in for a transport while uvicorn writes the head of a response."""

    __slots__ = ("_transport", "head")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.head = b""

    def write(self, data: bytes) -> None:
        self.head += data

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()


class StreamProtocol(HttpProtocol):
    """HTTP/1.1 on connections that a stream can take over."""

    def begin_request(self) -> None:
        handover = Handover(self)
        cast("dict[str, Any]", self.scope)["extensions"] = {EXTENSION: handover}
        super().begin_request()
        # Each request's own cycle: `self.cycle` is replaced when the next request comes.
        handover.cycle = ref(self.cycle)

    def keep_head(self, cycle: RequestResponseCycle) -> None:
        """Holds the head back, and keeps uvicorn from announcing chunks to an HTTP/1.0 client."""
        cycle.transport = cast("asyncio.Transport", _KeptHead(self.transport))
        if cycle.scope["http_version"] == "1.0":
            cycle.chunked_encoding = False

    def hand_over(
        self, cycle: RequestResponseCycle, hub: Hub, *, is_packed: bool
    ) -> StreamConnection | None:
        """Gives the transport to a new connection and drops everything else."""
        transport = self.transport
        if cycle.disconnected or transport.is_closing():
            cycle.disconnected = True
            return None
        if self._is_half_closed:  # a stream also ends when its client closes its side later
            cycle.disconnected = True
            self.pipeline.clear()
            transport.close()
            return None
        head = cast("_KeptHead", cycle.transport).head
        kind = GzipConnection if is_packed else StreamConnection
        if cycle.scope["http_version"] == "1.0":
            kind = PlainConnection
        connection = kind(hub, transport, head)
        transport.set_protocol(connection)  # from here on it is told when the transport has drained
        transport.resume_reading()
        self.forget()
        self.server_state.total_requests += 1
        self.pipeline.clear()
        cycle.response_complete = True  # the application may return
        # Breaks reference cycles, so that nothing waits for the garbage collector.
        cycle.transport = cycle.flow = None  # type: ignore[assignment]
        self.cycle = self.scope = self.headers = None  # type: ignore[assignment]
        self.parser = self.flow = self.transport = None  # type: ignore[assignment]
        return connection
