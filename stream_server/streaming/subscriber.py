"""A subscriber: what one stream shows, and what it still has to get.

A subscriber is not a queue. It joins its topic, starts behind on every product there, and catches
up in pages of `snapshot`; then it is up to date, and each frame is written as it comes. When its
socket is full, it only remembers which products changed. When the socket has drained, it catches up
with their newest state. So its memory is bounded by what it shows, however slow its client is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import ClassVar, Final, Protocol

from stream_server.streaming.catalogue import Page
from stream_server.streaming.frames import Frame

__all__ = ["PAGE", "Ids", "Place", "Registry", "Subscriber", "Topic", "Waiter"]

logger = logging.getLogger(__name__)

PAGE: Final = 200  # products in one snapshot event: what one turn of the event loop encodes


Ids = tuple[str, ...] | None  # of products, sorted, each once; None: the whole catalogue


class Topic:
    """A set of products that is watched, and its subscribers."""

    __slots__ = ("ids", "subscribers")

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        self.subscribers: set[Subscriber] = set()

    @property
    def kind(self) -> str:
        """As metrics call it."""
        return "catalogue" if self.ids is None else "product" if len(self.ids) == 1 else "batch"


class Registry(Protocol):
    """Where a subscriber is registered: the hub, as far as a subscriber knows it."""

    @property
    def on_failure(self) -> Callable[[], None]:
        """Called when a stream has failed."""

    def is_held(self, subscriber: Subscriber) -> bool:
        """Whether the stream waits for the first state."""

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Forgets a subscriber. Does nothing if it is not registered."""

    def stalled(self, subscriber: Subscriber) -> None:
        """Notes that a subscriber's socket is full from now on."""

    def recovered(self, subscriber: Subscriber) -> None:
        """Notes that a subscriber's socket has drained."""

    def page_of(self, ids: Iterable[str]) -> list[str]:
        """The first of these products, as many as fit one event."""

    def snapshot_frame(self, ids: Iterable[str], *, is_last: bool, of: Ids) -> Frame:
        """A `snapshot` event of these products, the last with the position."""

    def catalogue_page(self, after: str) -> Page:
        """The public products that follow this id, as many as fit one event."""

    def last_page(self, page: Page) -> Frame:
        """The frame of a page, for a subscriber that has the whole catalogue with it."""


class Place(Protocol):
    """Counts a stream for as long as it is open."""

    def leave(self) -> None:
        """Stops counting it."""


class Subscriber:
    """Base of everything that gets frames: a connection, an ASGI response, a waiting poll.

    `behind` is None while the subscriber is up to date: each frame is then sent as it comes.
    Otherwise `behind` holds the ids of products whose newest state it still has to get. While it
    goes through the whole catalogue, page by page, it is also behind on all ids after `cursor`.
    """

    __slots__ = ("behind", "cursor", "hub", "is_full", "pings_left", "place", "slot", "topic")

    is_stream: ClassVar[bool] = True

    def __init__(self, hub: Registry) -> None:
        self.hub = hub
        self.topic: Topic | None = None
        self.behind: set[str] | None = None
        self.cursor: str | None = None
        self.is_full = False
        self.slot = 0
        self.pings_left: int | None = None  # until it ends; the publisher decides at the first
        self.place: Place | None = None

    def write(self, frame: Frame) -> None:
        """Writes a frame to the socket. It may call `pause` before it returns."""
        raise NotImplementedError

    def send(self, frame: Frame) -> None:
        """Like `write`, but only for a subscriber that is up to date: no earlier frame waits."""
        self.write(frame)

    def backlog(self) -> int:
        """How many bytes were written that the client has not read; 0 if that is not known."""
        return 0

    def end(self) -> None:
        """Ends the stream in order: everything written still arrives."""
        raise NotImplementedError

    def abort(self) -> None:
        """Ends the stream at once: bytes that are not sent yet are thrown away."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """Ends the stream because of an error. It may have missed a change, so nothing more is
        sent to it: its client comes back with the position that it got last."""
        logger.error("A stream failed and is closed", exc_info=error)
        self.hub.on_failure()
        try:
            self.abort()
        except Exception:
            logger.exception("The failed stream could not be closed")
        self.hub.unsubscribe(self)

    def open(self, behind: Iterable[str]) -> None:
        """Starts the stream with the newest state of these products."""
        self.behind = set(behind)
        self._catch_up()

    def open_catalogue(self) -> None:
        """Starts the stream with the whole catalogue."""
        self.behind = set()
        self.cursor = ""
        self._catch_up()

    def fall_behind(self, product_ids: Iterable[str]) -> None:
        """Notes products that changed while the subscriber is not up to date."""
        assert self.behind is not None
        cursor = self.cursor
        self.behind.update(
            product_ids if cursor is None else (i for i in product_ids if i <= cursor)
        )

    def pause(self) -> None:
        """Stops writing, because the socket is full: changes are only noted."""
        self.is_full = True
        if self.behind is None:
            self.behind = set()
        if self.topic is not None:
            self.hub.stalled(self)

    def resume(self) -> None:
        """Catches up, because the socket has drained."""
        self.is_full = False
        self.hub.recovered(self)
        if self.hub.is_held(self):
            self.behind = None  # no state is loaded yet, so only pings were missed
        else:
            self._catch_up()

    def _catch_up(self) -> None:
        if self.behind is None or self.is_full or self.topic is None:
            return
        try:
            self.write(self._next_page())
        except Exception as error:  # noqa: BLE001  # it is logged there
            self.fail(error)
            return
        if self.behind is not None:
            asyncio.get_running_loop().call_soon(self._catch_up)

    def _next_page(self) -> Frame:
        """Takes the next products out of `behind`; after the last page, it is up to date."""
        behind = self.behind
        assert behind is not None
        if self.cursor is not None:
            page = self.hub.catalogue_page(self.cursor)
            self.cursor = page.last
            if page.last is not None or behind:
                return page.frame
            self.behind = None
            return self.hub.last_page(page)
        ids = self.hub.page_of(behind)
        behind.difference_update(ids)
        if not behind:
            self.behind = None
        assert self.topic is not None  # it is registered
        return self.hub.snapshot_frame(ids, is_last=not behind, of=self.topic.ids)


class Waiter(Subscriber):
    """A poll that waits for the next change of its product."""

    __slots__ = ("changed",)

    is_stream = False

    def __init__(self, hub: Registry) -> None:
        super().__init__(hub)
        self.changed = asyncio.Event()

    def write(self, frame: Frame) -> None:
        self.changed.set()

    def end(self) -> None:
        self.changed.set()

    def abort(self) -> None:
        self.changed.set()
