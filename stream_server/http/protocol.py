"""uvicorn's HTTP/1.1 protocol with additions: limits of size and time, and strict checks of heads.

The parser is uvicorn's, llhttp. This class limits the bytes that the parser gets, refuses heads
that HTTP forbids but llhttp accepts, ignores every Upgrade, and tells the watch what the
connection waits for.
"""

import asyncio
import fcntl
import logging
import math
import struct
import sys
import termios
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from stream_server.http.proxies import FORWARDED_HOST
from stream_server.http.refusals import (
    MAX_HEAD,
    MAX_HEADERS,
    Refusal,
    check_head,
    is_host,
    to_origin_form,
)
from stream_server.http.watch import Place, Timeouts, Watch
from stream_server.metrics import Metrics

__all__ = ["HttpProtocol", "WatchedState", "unread_by_client"]

logger = logging.getLogger(__name__)

_MIN_PROGRESS: Final = 1024  # bytes of a body or a response within its time limit
_LINGER_SECONDS: Final = 2.0  # for a refused client to read the reason while it may still send
_HALF_CLOSED_SECONDS: Final = 5.0  # for the response to a client that has closed its side
_CHECKED: Final = frozenset((b"host", b"transfer-encoding", b"expect", b"x-forwarded-host"))


class WatchedState(ServerState):
    """The state that uvicorn shares among a server's connections, with the watch over them."""

    watch: Watch


class HttpProtocol(HttpToolsProtocol):
    """A connection that serves HTTP requests."""

    since = 0.0  # when the client's turn began, in seconds of the loop's clock

    _in_head = True  # the next bytes belong to a head; it may not have begun
    _has_begun = False  # the head has begun
    _head_size = 0  # bytes of the head so far
    _silent_size = 0  # bytes of chunk extensions or trailers since the body's last part
    _part_size = 0  # bytes of the body since `since`
    _has_turned = False  # the parser's present piece contains the end of a message
    _has_body = False  # the parser's present piece contains a part of a body
    _offers_upgrade = False
    _hosts = 0
    _good_host = b""  # the previous request's valid Host; most requests repeat it
    _is_refused = False  # further input is discarded
    _refusal: Refusal | None = None  # to send after the responses to earlier requests
    _is_half_closed = False
    _is_proxy = False  # the peer is a trusted proxy
    _forwarded_host = ""  # X-Forwarded-Host of the request
    _place: Place | None = None  # in the count of the address
    _unread = math.inf  # bytes of the response that were unread at the last check

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._make_tolerant()
        self._watch = _watch_of(server_state)
        self._transfer_codings: list[bytes] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the connection as uvicorn does, but asks the transport for the addresses.

        uvicorn asks a socket object that it makes for that, which costs a twelfth of a new stream.
        """
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = _address(transport, "sockname")
        self.client = _address(transport, "peername")
        self.scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
        self.since = self.loop.time()
        if not (self._is_counted() and self._watch.admits(_file(transport))):
            self._is_refused = True
            transport.abort()
        self.connections.add(self)  # after `admits`, so that it does not make room for itself

    def connection_lost(self, exc: Exception | None) -> None:
        self.forget()
        super().connection_lost(exc)

    def forget(self) -> None:
        """Removes the connection from the watch: it serves no more HTTP requests."""
        self.connections.discard(self)
        if self._place is not None:
            self._place.leave()
            self._place = None

    def _is_counted(self) -> bool:
        """Counts the connection and returns whether its address may have it. Proxies may have any
        number of connections; the peer of a Unix socket is a proxy."""
        if self.client is None or self.client[0] in self._watch.proxies:
            self._is_proxy = True
            return True
        self._place = self._watch.place_of(self.client[0])
        return self._place is not None

    # Input

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if not self._in_head:
            self._part_size += len(data)
            if self._part_size >= _MIN_PROGRESS:
                self.since, self._part_size = self.loop.time(), 0
        elif not self._head_size and not self._has_begun:
            self.since = self.loop.time()
        try:
            if len(data) <= MAX_HEAD - self._head_size:  # the common case
                self._feed(data)
            else:
                self._feed_in_pieces(memoryview(data))
        except Refusal as refusal:
            self._refuse(refusal)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # as asyncio has it
        """Keeps the connection of a client that closes its side and waits for its response."""
        cycle = self.cycle
        if self._is_refused or cycle is None or cycle.response_complete or not self._in_head:
            return None
        if self.scheme == "https":  # TLS has no half-closed connections
            return None
        cycle.keep_alive = False
        self._is_half_closed = True
        self.since = self.loop.time()
        return True

    def _feed_in_pieces(self, data: memoryview) -> None:
        while data:
            room = MAX_HEAD - self._head_size
            if room <= 0:
                is_line = not self.headers and len(self.url) > MAX_HEAD // 2
                what = "target" if is_line else "head"
                raise Refusal(
                    414 if is_line else 431,
                    f"The request's {what} is too long: it must have at most {MAX_HEAD} bytes",
                )
            self._feed(data[:room])
            data = data[room:]

    def _feed(self, piece: bytes | memoryview) -> None:
        """Feeds the parser one piece and counts its bytes for the limits of head and trailers."""
        self._has_turned = self._has_body = False
        while True:
            size = len(piece)
            try:
                self.parser.feed_data(piece)
                break
            except httptools.HttpParserUpgrade as offer:
                piece = memoryview(piece)[offer.args[0] :]
                self._read_without_upgrade()
            except httptools.HttpParserError as error:
                raise _explain(error) from None
        if self._in_head:
            # Do not count this piece for a head that began behind another message.
            if not self._has_turned:
                self._head_size += size
        elif self._has_body:
            self._silent_size = 0
        else:
            self._silent_size += size
            if self._silent_size > 2 * MAX_HEAD:
                raise Refusal(
                    400,
                    "The chunk extensions or trailers are too long: they must have at most"
                    f" {2 * MAX_HEAD} bytes",
                )

    def _read_without_upgrade(self) -> None:
        """Reads the head again with a new parser, without its Upgrade header.

        A server may ignore an offer to upgrade (RFC 9110, section 7.8). The parser cannot: it takes
        the following bytes for another protocol's.
        """
        head = [b"%b %b HTTP/%b" % (
            self.parser.get_method(), self.url, self.parser.get_http_version().encode(),
        )]  # fmt: skip
        head += [b"%b: %b" % each for each in self.headers if each[0] != b"upgrade"]
        self._offers_upgrade = False
        self.parser = httptools.HttpRequestParser(self)
        self._make_tolerant()
        try:
            self.parser.feed_data(b"\r\n".join([*head, b"", b""]))
        except httptools.HttpParserError as error:
            raise _explain(error) from None

    def _make_tolerant(self) -> None:
        self.parser.set_dangerous_leniencies(
            lenient_data_after_close=True,  # uvicorn sets it, too
            lenient_version=True,  # `check_head` checks the version
        )

    # The parser's callbacks

    def on_message_begin(self) -> None:
        self._has_begun = True
        self._hosts = 0
        if self._transfer_codings:
            self._transfer_codings = []
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else a trailer, which is not a header (RFC 9110, section 6.5.1)
            name = name.lower()
            if name in _CHECKED:
                self._note(name, value)
            self.headers.append((name, value))

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
            if value != self._good_host:
                if not is_host(value):
                    raise Refusal(400, "Host must be a name or an address, optionally with a port")
                self._good_host = value
        elif name == b"transfer-encoding":
            self._transfer_codings.append(value)
        elif name == b"x-forwarded-host":
            if self._is_proxy:
                self._forwarded_host += value.decode("latin-1") + ","
        elif value.lower() == b"100-continue":
            self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise Refusal(501, "CONNECT is not supported: this server is not a proxy")
            self._offers_upgrade = True
            return
        if len(self.headers) > MAX_HEADERS:
            raise Refusal(431, f"A request must have at most {MAX_HEADERS} headers")
        version = self.parser.get_http_version()
        if version != "1.1" or self._hosts != 1 or self._transfer_codings:
            check_head(version, self._hosts, self._transfer_codings)
        if not self.url.startswith(b"/"):
            self.url = to_origin_form(self.url)
        self._in_head = False
        self._head_size = self._silent_size = self._part_size = 0
        self.since = self.loop.time()
        self.begin_request()
        if version not in ("1.1", "1.0"):  # answer a later minor version as 1.1 (RFC 9110, 2.5)
            self.cycle.scope["http_version"] = "1.1"

    def begin_request(self) -> None:
        """Passes the request to the application."""
        if self._forwarded_host:
            extensions = cast("dict[str, Any]", self.scope).setdefault("extensions", {})
            extensions[FORWARDED_HOST] = self._forwarded_host
            self._forwarded_host = ""
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._has_body = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._offers_upgrade:
            return
        self._in_head = self._has_turned = True
        self._has_begun = False
        if self.cycle.response_complete:
            self.since = self.loop.time()
        else:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    # Output

    def on_response_complete(self) -> None:
        """Finishes a response as uvicorn does, without a keep-alive timer: the watch ends idle
        connections."""
        self.since = self.loop.time()
        if self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self._refusal is None:
            self.flow.resume_reading()
        else:
            self._send_refusal(self._refusal)

    def pause_writing(self) -> None:
        self.since, self._unread = self.loop.time(), math.inf
        super().pause_writing()

    def _refuse(self, refusal: Refusal) -> None:
        """Ends the connection with an error after the responses to all earlier requests."""
        self._is_refused = True
        self._watch.count_refused(refusal.status)
        cycle = self.cycle
        if not self._in_head and cycle is not None:  # the error is in the body
            if self.pipeline:
                self.pipeline.popleft()
            else:
                self._refuse_body(cycle, refusal)
                return
        if cycle is None or cycle.response_complete:
            self._send_refusal(refusal)
        else:
            self._refusal = refusal

    def _refuse_body(self, cycle: RequestResponseCycle, refusal: Refusal) -> None:
        has_answer = cycle.response_started
        if not cycle.response_complete:
            cycle.disconnected = True  # stops the application's reading and writing
            cycle.message_event.set()
        if has_answer:
            self.transport.close()
        else:
            self._send_refusal(refusal)

    def _send_refusal(self, refusal: Refusal) -> None:
        transport = self.transport
        transport.write(refusal.answer(self.server_state.default_headers))
        self.since = self.loop.time()
        if transport.can_write_eof():
            # If we closed at once, the kernel would answer further input with a reset, and the
            # client might lose the response (RFC 9112, section 9.6).
            transport.write_eof()
            self.flow.resume_reading()
        else:
            transport.close()

    # The watch

    def waits_for(self) -> str | None:
        """Returns what the client has to do next (see `WatchedConnection`)."""
        cycle = self.cycle
        if self.flow.write_paused or self.transport.is_closing():
            return "answer"
        if cycle is not None and not cycle.response_complete and not cycle.disconnected:
            return None if self._in_head or self.flow.read_paused else "body"
        if not self._in_head:
            return "body"
        return "head" if cycle is None or self._head_size or self._has_begun else "idle"

    def look(self, now: float) -> None:
        """Ends the connection if its client has taken too long."""
        if self._is_refused and self._refusal is None and not self.transport.is_closing():
            if now - self.since >= _LINGER_SECONDS:
                self.transport.close()
            return
        match self.waits_for():
            case "answer":
                self._look_at_answer(now)
            case "head" if now - self.since >= self._watch.timeouts.head:
                self._give_up("head", "The head of the request did not come in time")
            case "body" if now - self.since >= self._watch.timeouts.body:
                self._give_up("body", "The body of the request did not come in time")
            case "idle" if now - self.since >= self._watch.timeouts.idle:
                self._watch.count_ended("idle")
                self.transport.close()
                self.since = now
            case None if not self._is_half_closed:
                self.since = now  # the time limit begins when the client's turn comes again
            case None if now - self.since >= _HALF_CLOSED_SECONDS:
                self.leave()  # most clients that close their side are gone

    def leave(self) -> None:
        """Ends the connection now."""
        if self.waits_for() == "idle":
            self.transport.close()
        else:
            self.transport.abort()

    def _give_up(self, reason: str, message: str) -> None:
        """Ends the connection, with 408 if a request is open (RFC 9110, section 15.5.9)."""
        self._watch.count_ended(reason)
        cycle = self.cycle
        has_request = self._has_begun if self._in_head else not cycle.response_complete
        if has_request:
            self._refuse(Refusal(408, message))
        else:
            self.transport.close()

    def _look_at_answer(self, now: float) -> None:
        unread = unread_by_client(self.transport)
        if not self._unread - _MIN_PROGRESS < unread <= self._unread:
            self._unread, self.since = unread, now  # the client reads, or there is more to read
        elif now - self.since >= self._watch.timeouts.answer:
            self._watch.count_ended("answer")
            self.transport.abort()


def _watch_of(server_state: ServerState) -> Watch:
    watch: Watch | None = getattr(server_state, "watch", None)
    if watch is None:  # our protocol in a foreign server
        watch = Watch(server_state.connections, Timeouts(), Metrics())  # type: ignore[arg-type]
        server_state.watch = watch  # type: ignore[attr-defined]
    watch.start()
    return watch


def _explain(error: httptools.HttpParserError) -> Refusal:
    """Returns the refusal for a request that the parser or a callback rejected."""
    cause = error.__context__
    if isinstance(cause, Refusal):
        return cause
    if "PRI" in str(error):  # the start of HTTP/2 with prior knowledge
        return Refusal(505, "HTTP/2 is not supported; use HTTP/1.1")
    if cause is None:
        return Refusal(400, f"The request must be valid HTTP/1.1: {error}")
    if isinstance(cause, (httptools.HttpParserError, UnicodeError)):
        return Refusal(400, "The request's target must be a path, optionally with a query")
    logger.error("Could not read a request", exc_info=cause)
    return Refusal(500, "The server failed to read the request; its log has the details")


def unread_by_client(transport: asyncio.Transport) -> int:
    """Returns how many written bytes the client has not acknowledged: those in our buffer and, on
    Linux, in the kernel's.

    The kernel accepts more data only when a third of its buffer is free, so our buffer alone may
    not change for minutes while a slow client reads.
    """
    unread = transport.get_write_buffer_size()
    if sys.platform == "linux":
        file = transport.get_extra_info("socket").fileno()
        if file >= 0:
            # SIOCOUTQ is TIOCOUTQ (tcp(7)).
            unread += struct.unpack("i", fcntl.ioctl(file, termios.TIOCOUTQ, b"\0" * 4))[0]
    return unread


def _file(transport: asyncio.Transport) -> int:
    number: int = transport.get_extra_info("socket").fileno()
    return number


def _address(transport: asyncio.Transport, which: str) -> tuple[str, int] | None:
    """Returns host and port; None for a Unix socket."""
    address = transport.get_extra_info(which)
    return (address[0], address[1]) if isinstance(address, tuple) else None
