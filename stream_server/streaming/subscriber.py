"""A subscriber: what one stream shows, and what it still has to get.

A subscriber is not a queue. Its life: it is registered in its topic, owes itself the state of
every product there, and pays that in `snapshot` pages; then it is up to date and each frame is
written as it comes. When its socket is full, it only remembers which products changed; when the
socket has drained, it is paid their newest state in snapshot pages again. So its memory is
bounded by what it shows, however slow it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Protocol

from stream_server.streaming.frames import Frame

if TYPE_CHECKING:
    from stream_server.streaming.hub import Hub
    from stream_server.streaming.topics import Topic

logger = logging.getLogger(__name__)

PAGE = 200  # products in one snapshot event: what one turn of the event loop encodes


class Place(Protocol):
    """Where a stream is counted for as long as it is open."""

    def leave(self) -> None:
        """It is not open any more."""


class Subscriber:
    """Base of the ways to write: a connection, an ASGI response, a waiting poll.

    `owed` is None while the subscriber is up to date, so that a frame may be sent to it as it
    comes; otherwise the ids whose newest state it still has to get. While it goes through the
    whole catalogue, page by page, all that follows `cursor` is owed, too.
    """

    __slots__ = ("cursor", "hub", "is_full", "owed", "pings_left", "place", "slot", "topic")

    is_stream: ClassVar[bool] = True

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.topic: Topic | None = None
        self.owed: set[str] | None = None
        self.cursor: str | None = None
        self.is_full = False
        self.slot = 0
        self.pings_left = 0  # until it has lived long enough; 0: it may live for ever
        self.place: Place | None = None

    def write(self, frame: Frame) -> None:
        """Hands a frame to the socket. May call `pause` before it returns."""
        raise NotImplementedError

    def send(self, frame: Frame) -> None:
        """Like `write`, for a subscriber that is up to date, so that nothing waits before it."""
        self.write(frame)

    def backlog(self) -> int:
        """How many bytes were written that the socket has not taken; 0 where nobody can tell."""
        return 0

    def end(self) -> None:
        """Ends the stream in order: what was written still arrives."""
        raise NotImplementedError

    def abort(self) -> None:
        """Ends the stream at once: what was written is thrown away."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """Ends the stream because of an error. It may have missed something, so it gets nothing
        more: its client comes back with the position that it got last."""
        logger.error("A stream failed and is closed", exc_info=error)
        self.hub.on_failure()
        try:
            self.abort()
        except Exception:
            logger.exception("It could not be closed")
        self.hub.unsubscribe(self)

    def open(self, owed: Iterable[str]) -> None:
        """Starts the stream with what it owes itself."""
        self.owed = set(owed)
        self._pay()

    def open_catalogue(self) -> None:
        """Starts the stream with all that there is."""
        self.owed = set()
        self.cursor = ""
        self._pay()

    def owe(self, product_ids: Iterable[str]) -> None:
        """These have changed, while it is not up to date."""
        assert self.owed is not None
        cursor = self.cursor
        self.owed.update(product_ids if cursor is None else (i for i in product_ids if i <= cursor))

    def pause(self) -> None:
        """The socket is full: remember instead of writing."""
        self.is_full = True
        if self.owed is None:
            self.owed = set()
        if self.topic is not None:
            self.hub.stalled(self)

    def resume(self) -> None:
        """The socket has drained: pay what is owed."""
        self.is_full = False
        self.hub.recovered(self)
        if self in self.hub.held:
            self.owed = None  # there is no state yet to be paid, but pings
        else:
            self._pay()

    def _pay(self) -> None:
        if self.owed is None or self.is_full or self.topic is None:
            return
        try:
            self.write(self._next_page())
        except Exception as error:  # noqa: BLE001  # it is logged there
            self.fail(error)
            return
        if self.owed is not None:
            asyncio.get_running_loop().call_soon(self._pay)

    def _next_page(self) -> Frame:
        """Takes from what is owed; nothing is any more after the last page."""
        owed = self.owed
        assert owed is not None
        if self.cursor is not None:
            page = self.hub.catalogue_page(self.cursor)
            self.cursor = page.last
            if page.last is not None or owed:
                return page.frame
            self.owed = None
            return self.hub.last_page(page)
        ids = self.hub.page_of(owed)
        owed.difference_update(ids)
        if not owed:
            self.owed = None
        assert self.topic is not None  # it is registered
        return self.hub.snapshot_frame(ids, is_last=not owed, of=self.topic.ids)


class Waiter(Subscriber):
    """A poll that waits for the next change of its product."""

    __slots__ = ("changed",)

    is_stream = False

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self.changed = asyncio.Event()

    def write(self, frame: Frame) -> None:
        self.changed.set()

    def end(self) -> None:
        self.changed.set()

    def abort(self) -> None:
        self.changed.set()
