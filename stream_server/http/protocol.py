"""uvicorn's HTTP/1.1 protocol, with what it leaves open: bounds, time limits, strict heads.

The parser is llhttp, as before. This class counts what the parser is fed, refuses what HTTP
forbids and llhttp lets pass, ignores every Upgrade, and tells the watch whom it waits for.
"""

from __future__ import annotations

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
    in_origin_form,
    is_host,
)
from stream_server.http.watch import Patience, Place, Watch
from stream_server.metrics import Metrics

__all__ = ["HttpProtocol", "WatchedState", "unread_by_client"]

logger = logging.getLogger(__name__)

_MIN_PROGRESS: Final = 1024  # bytes of a body or an answer, in the time that is given for them
_FAREWELL_SECONDS: Final = (
    2.0  # for a client to read why it is refused, while it may still be sending
)
_HALF_CLOSED_SECONDS: Final = 5.0  # for the answer to a client that said it will send no more
_CHECKED: Final = frozenset((b"host", b"transfer-encoding", b"expect", b"x-forwarded-host"))


class WatchedState(ServerState):
    """What uvicorn shares among the connections of a server, and the watch over them."""

    watch: Watch


class HttpProtocol(HttpToolsProtocol):
    """One connection that HTTP is spoken on."""

    since = 0.0  # seconds of the loop's clock, from which its client lets us wait

    _in_head = True  # of the next request, of which nothing may have come yet
    _has_begun = False  # that head
    _head_size = 0  # bytes of it, so far
    _silent_size = 0  # bytes of chunk extensions or trailers, since the body's last part
    _part_size = 0  # bytes of the body that came since `since`
    _has_turned = False  # from one message to the next, in the piece that the parser has
    _has_body = False  # there is a part of the body in the piece that the parser has
    _offers_upgrade = False
    _hosts = 0
    _good_host = b""  # of the request before; most name the same one
    _is_refused = False  # what still comes is thrown away
    _refusal: Refusal | None = None  # to be sent after the answers to earlier requests
    _is_half_closed = False
    _is_proxy = False  # that asks for others, and may say for whom
    _forwarded_host = ""  # of the request
    _place: Place | None = None  # where it is counted
    _unread = math.inf  # bytes of the answer that the client had not read when we looked last

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
        """As uvicorn's, but asks the transport for its addresses and not a socket made for it,
        which would be a twelfth of what a new stream costs."""
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = _address(transport, "sockname")
        self.client = _address(transport, "peername")
        self.scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
        self.since = self.loop.time()
        if not (self._is_counted() and self._watch.admits(_file(transport))):
            self._is_refused = True
            transport.abort()
        self.connections.add(self)  # now, so that it does not make room for itself

    def connection_lost(self, exc: Exception | None) -> None:
        self.forget()
        super().connection_lost(exc)

    def forget(self) -> None:
        """No HTTP is spoken here any more."""
        self.connections.discard(self)
        if self._place is not None:
            self._place.leave()
            self._place = None

    def _is_counted(self) -> bool:
        """Whether its address may have this connection. Proxies may have any number, and what comes
        by a Unix socket comes from one."""
        if self.client is None or self.client[0] in self._watch.proxies:
            self._is_proxy = True
            return True
        self._place = self._watch.place_of(self.client[0])
        return self._place is not None

    # What comes

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
            if len(data) <= MAX_HEAD - self._head_size:  # as nearly always
                self._feed(data)
            else:
                self._feed_in_pieces(memoryview(data))
        except Refusal as refusal:
            self._refuse(refusal)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # as asyncio has it
        """A client that has sent all of its request may close its side and wait for the answer."""
        cycle = self.cycle
        if self._is_refused or cycle is None or cycle.response_complete or not self._in_head:
            return None
        if self.scheme == "https":  # TLS knows no such half
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
                    414 if is_line else 431, f"The request's {what} is too long: {MAX_HEAD} bytes"
                )
            self._feed(data[:room])
            data = data[room:]

    def _feed(self, piece: bytes | memoryview) -> None:
        """Gives the parser no more than a head may have in all."""
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
                raise _explained(error) from None
        if self._in_head:
            # Of a head that began behind another message, what came in this piece is not counted.
            if not self._has_turned:
                self._head_size += size
        elif self._has_body:
            self._silent_size = 0
        else:
            self._silent_size += size
            if self._silent_size > 2 * MAX_HEAD:
                raise Refusal(400, "The chunk extensions or trailers of the body are too long")

    def _read_without_upgrade(self) -> None:
        """A server may ignore an offer to upgrade (RFC 9110, section 7.8). The parser cannot: it
        takes what follows for another protocol's. So a new one reads the head again, without."""
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
            raise _explained(error) from None

    def _make_tolerant(self) -> None:
        self.parser.set_dangerous_leniencies(
            lenient_data_after_close=True,  # as uvicorn has it
            lenient_version=True,  # `check_head` judges it
        )

    # The parser's callbacks

    def on_message_begin(self) -> None:
        self._has_begun = True
        self._hosts = 0
        if self._transfer_codings:
            self._transfer_codings = []
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else a trailer, which is no header (RFC 9110, section 6.5.1)
            name = name.lower()
            if name in _CHECKED:
                self._note(name, value)
            self.headers.append((name, value))

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
            if value != self._good_host:
                if not is_host(value):
                    raise Refusal(400, "The Host header is no name or address with a port")
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
                raise Refusal(501, "This server is no proxy: it knows no CONNECT")
            self._offers_upgrade = True
            return
        if len(self.headers) > MAX_HEADERS:
            raise Refusal(431, f"The request has more than {MAX_HEADERS} headers")
        version = self.parser.get_http_version()
        if version != "1.1" or self._hosts != 1 or self._transfer_codings:
            check_head(version, self._hosts, self._transfer_codings)
        if not self.url.startswith(b"/"):
            self.url = in_origin_form(self.url)
        self._in_head = False
        self._head_size = self._silent_size = self._part_size = 0
        self.since = self.loop.time()
        self.begin_request()
        if version not in ("1.1", "1.0"):  # a later one is answered as ours (RFC 9110, 2.5)
            self.cycle.scope["http_version"] = "1.1"

    def begin_request(self) -> None:
        """Gives the request to the application."""
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

    # What goes

    def on_response_complete(self) -> None:
        """As uvicorn's, but the watch ends idle connections, and no timer for each."""
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
        """Ends the connection with an error, after the answers to all earlier requests."""
        self._is_refused = True
        self._watch.refused(refusal.status)
        cycle = self.cycle
        if not self._in_head and cycle is not None:  # it is the body that is wrong
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
            cycle.disconnected = True  # the application reads and writes no more
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
            # Were it closed at once, the system would send a reset for what still comes, and the
            # client might lose the answer (RFC 9112, section 9.6).
            transport.write_eof()
            self.flow.resume_reading()
        else:
            transport.close()

    # The watch

    def waits_for(self) -> str | None:
        """What the client has to do next (see `Guest`)."""
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
            if now - self.since >= _FAREWELL_SECONDS:
                self.transport.close()
            return
        match self.waits_for():
            case "answer":
                self._look_at_answer(now)
            case "head" if now - self.since >= self._watch.patience.head:
                self._give_up("head", "The head of the request did not come in time")
            case "body" if now - self.since >= self._watch.patience.body:
                self._give_up("body", "The body of the request did not come in time")
            case "idle" if now - self.since >= self._watch.patience.idle:
                self._watch.ended("idle")
                self.transport.close()
                self.since = now
            case None if not self._is_half_closed:
                self.since = now  # so that patience begins when it is the client's turn again
            case None if now - self.since >= _HALF_CLOSED_SECONDS:
                self.leave()  # most clients that close their side have gone

    def leave(self) -> None:
        """Ends the connection now."""
        if self.waits_for() == "idle":
            self.transport.close()
        else:
            self.transport.abort()

    def _give_up(self, reason: str, message: str) -> None:
        """Answers 408 if there is a request to answer (RFC 9110, section 15.5.9)."""
        self._watch.ended(reason)
        cycle = self.cycle
        has_request = self._has_begun if self._in_head else not cycle.response_complete
        if has_request:
            self._refuse(Refusal(408, message))
        else:
            self.transport.close()

    def _look_at_answer(self, now: float) -> None:
        unread = unread_by_client(self.transport)
        if not self._unread - _MIN_PROGRESS < unread <= self._unread:
            self._unread, self.since = unread, now  # it reads, or there is more to read
        elif now - self.since >= self._watch.patience.answer:
            self._watch.ended("answer")
            self.transport.abort()


def _watch_of(server_state: ServerState) -> Watch:
    watch: Watch | None = getattr(server_state, "watch", None)
    if watch is None:  # a server that is not ours, with a protocol that is
        watch = Watch(server_state.connections, Patience(), Metrics())  # type: ignore[arg-type]
        server_state.watch = watch  # type: ignore[attr-defined]
    watch.start()
    return watch


def _explained(error: httptools.HttpParserError) -> Refusal:
    """What is wrong with a request that the parser or a callback gave up on."""
    cause = error.__context__
    if isinstance(cause, Refusal):
        return cause
    if "PRI" in str(error):  # the start of HTTP/2 with prior knowledge
        return Refusal(505, "HTTP/2 is not spoken here, but HTTP/1.1 is")
    if cause is None:
        return Refusal(400, f"This is not HTTP/1.1: {error}")
    if isinstance(cause, (httptools.HttpParserError, UnicodeError)):
        return Refusal(400, "The request's target is no path with a query")
    logger.error("A request could not be read", exc_info=cause)
    return Refusal(500, "Something went wrong here; it has been logged")


def unread_by_client(transport: asyncio.Transport) -> int:
    """Bytes written that the other side has not acknowledged, here and, on Linux, in the kernel.
    Its buffer may take minutes of a slow client's reading without a sign: it takes nothing more
    until a third of it is free."""
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
    """Host and port; None of a Unix socket."""
    address = transport.get_extra_info(which)
    return (address[0], address[1]) if isinstance(address, tuple) else None
