"""The hub: the newest state of every product, and which subscribers show it.

The hub ignores a change that is not newer than the state it has. A position that it gives to a
client never covers a change that the client was not sent. A product that nobody is shown costs
nothing. The hub knows no database and no socket; an `Encoder` makes the JSON of products.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import count
from typing import Final

from stream_server.streaming import events, frames
from stream_server.streaming.catalogue import Page, Pages, Recent
from stream_server.streaming.cursor import Position, Snapshot, products_tag
from stream_server.streaming.events import Encoder
from stream_server.streaming.frames import Frame
from stream_server.streaming.openings import MAX_BYTES, Openings
from stream_server.streaming.pending import PendingChanges
from stream_server.streaming.products import Change, Product, ProductEntry, apply_change
from stream_server.streaming.subscriber import PAGE, Ids, Subscriber, Topic, Waiter
from stream_server.streaming.topics import Topics

__all__ = ["PING_SLOTS", "Hub"]

PING_SLOTS: Final = 150
_PAGE_BYTES: Final = 65_536  # of products in one page; the last product may exceed it


class Hub:
    """State and subscriptions. Everything runs on one event loop; nothing here waits."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        conflate: float = 0.1,
        retry_ms: int = 2000,
        clock: Callable[[], float] = time.monotonic,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self.encoder = encoder
        self.retry_ms = retry_ms
        self.clock = clock
        self.on_failure = on_failure
        self.changed = asyncio.Event()  # set when the publisher may have something to do
        self.epoch = ""
        self.seen = Snapshot(1, 1)
        self.is_loaded = False
        self.is_live = False
        self.live_changes = 0  # how often `is_live` has changed
        self.generation = 0  # how often a loaded state did not continue the one before
        self.ended_generation = 0  # streams of earlier generations have ended
        self.entries: dict[str, ProductEntry] = {}
        self.pending = PendingChanges(encoder, conflate=conflate, clock=clock)
        self.ping_slots: list[set[Subscriber]] = [set() for _ in range(PING_SLOTS)]
        self.stalls: dict[Subscriber, tuple[float, int]] = {}  # since when, and the backlog then
        self.held: dict[Subscriber, str | None] = {}
        self.waiters: set[Waiter] = set()
        self.open_streams: Counter[str] = Counter()
        self.revision = 0  # rises whenever the content of a snapshot frame may change
        self.topics = Topics()
        self._openings = Openings()
        self._pages = Pages()
        self._recent = Recent()
        self._next_slot = count()
        self._sorted_ids: list[str] | None = None

    # State

    def load(self, epoch: str, seen: Snapshot, products: Mapping[str, Product]) -> None:
        """Takes a whole state that was read in this snapshot. Products that differ are published.
        If the state does not continue the known history, every stream ends (clients reset)."""
        continues = not self.is_loaded or (
            epoch == self.epoch
            and seen.xmax >= self.seen.xmax
            and self.entries.keys() <= products.keys()
            and all(p.version >= self.entries[i].product.version
                    for i, p in products.items() if i in self.entries)
        )  # fmt: skip
        if self.is_loaded and continues:
            for product in products.values():
                self._take(product)
        else:
            self.entries = {product.id: ProductEntry(product) for product in products.values()}
            self.pending.clear()
            self._sorted_ids = None
            self._recent.fill((p.changed_xid, i) for i, p in products.items())
        if not continues:
            self.generation += 1
        self.revision += 1
        self._pages.clear()
        self.epoch, self.seen, self.is_loaded = epoch, seen, True
        self.changed.set()

    def apply(self, changes: Iterable[Change], seen: Snapshot | None = None) -> None:
        """Takes rows of the log, in order. `seen` is the snapshot after the last of them, None
        while more of them follow."""
        for change in changes:
            entry = self.entries.get(change.product_id)
            product = apply_change(entry.product if entry else None, change)
            if product is not None:
                self._take(product)
        if seen is not None and seen != self.seen:
            self.seen = seen
            self.revision += 1
        if self.pending:
            self.changed.set()

    def set_live(self, is_live: bool) -> None:
        """Notes whether the source follows the database, and tells subscribers."""
        if is_live != self.is_live:
            self.is_live = is_live
            self.revision += 1
            self._pages.clear()
            self.live_changes += 1
            self.changed.set()

    def _take(self, product: Product) -> None:
        entry = self.entries.get(product.id)
        before = entry.product if entry else None
        if before is product or (before is not None and before.version >= product.version
                                 and before == product):  # fmt: skip
            return
        self.revision += 1
        if entry is None:
            entry = self.entries[product.id] = ProductEntry(product)
            if self._sorted_ids is not None:
                insort(self._sorted_ids, entry.id)
        else:
            entry.product = product
            entry.json = entry.tag = None
        self._pages.changed(entry.id)
        self._recent.add(product.changed_xid, entry.id)
        is_shown = self.topics.is_watched(product.id)
        self.pending.note(entry, before, self.seen, is_shown=is_shown)

    # Reading

    def public(self, product_id: str) -> Product | None:
        """The product; None if there is none, or it is a draft."""
        entry = self.entries.get(product_id)
        return entry.product if entry is not None and entry.product.is_public else None

    def json(self, product_id: str) -> bytes:
        """The public JSON of a known product, encoded once a version."""
        entry = self.entries[product_id]
        if entry.json is None:
            entry.json = self.encoder.product(entry.product)
        return entry.json

    def tag(self, product_id: str) -> str:
        """Identifies the public JSON of a known product: its history, its version and a digest of
        the bytes, since another release may encode the same version differently."""
        entry = self.entries[product_id]
        if entry.tag is None:
            digest = blake2b(self.json(product_id), digest_size=6).hexdigest()
            entry.tag = f"{self.epoch}.{entry.product.version}.{digest}"
        return entry.tag

    def sorted_ids(self) -> list[str]:
        """Every product id, in order."""
        if self._sorted_ids is None:
            self._sorted_ids = sorted(self.entries)
        return self._sorted_ids

    def end_generation(self, generation: int) -> None:
        """Notes that the streams of earlier generations have ended."""
        self.revision += 1
        self.ended_generation = generation

    # Positions

    def position(self) -> str:
        """The newest position that covers no change which a subscriber may still have to get."""
        return str(Position(self.epoch, self.pending.covered(self.seen)))

    def published_position(self) -> str:
        """The position of a client that gets all that is not pending."""
        return str(Position(self.epoch, self.pending.published(self.seen)))

    # Subscriptions

    def subscribe(
        self, subscriber: Subscriber, ids: Iterable[str] | None, last_event_id: str | None = None
    ) -> None:
        """Registers a stream of some products (None: all) and starts it.

        `last_event_id` is the position that the client got last. With a position of these products
        the stream starts with the changes since then; with none, or one of other products, with
        all products; with a position of another history, with a reset and all products.

        A stream of the whole catalogue that starts with all products begins with a reset, too: its
        snapshot does not name products that are gone, and the client may know some from a stream
        that was cut before it gave a position.

        Until the first state is loaded, the stream is held: it gets only pings until `start_held`.
        """
        topic = self._join(subscriber, ids)
        try:
            self._start(subscriber, topic, last_event_id)
        except Exception as error:  # noqa: BLE001  # it is logged there
            subscriber.fail(error)

    def _start(self, subscriber: Subscriber, topic: Topic, last_event_id: str | None) -> None:
        subscriber.slot = next(self._next_slot) % PING_SLOTS
        self.ping_slots[subscriber.slot].add(subscriber)
        self.open_streams[topic.kind] += 1
        if subscriber.is_full:
            self.stalled(subscriber)
        if self.is_loaded:
            self._open(subscriber, topic, last_event_id)
        else:
            self.held[subscriber] = last_event_id

    def is_held(self, subscriber: Subscriber) -> bool:
        """Whether the stream waits for the first state."""
        return subscriber in self.held

    def start_held(self, subscriber: Subscriber) -> bool:
        """Starts a stream that was held. False if it shows one product that does not exist: then
        the stream should end, so that the client comes back and gets a 404."""
        last_event_id, topic = self.held.pop(subscriber), subscriber.topic
        assert topic is not None  # `unsubscribe` takes it out of `held`
        if topic.kind == "product" and not any(map(self.public, topic.ids or ())):
            return False
        self._open(subscriber, topic, last_event_id)
        return True

    def _open(self, subscriber: Subscriber, topic: Topic, last_event_id: str | None) -> None:
        ids = topic.ids
        position = self.resumable(last_event_id) if last_event_id else None
        if position is not None and position.may_be_of(ids):
            changed = self._changed_since(position.snapshot, ids)
            if changed is not None:
                subscriber.open(changed)
                return
        if ids is None or (last_event_id and position is None):
            subscriber.write(events.reset(self.retry_ms))
        if ids is None:
            subscriber.open_catalogue()
        elif subscriber.is_full or not self._fits_an_event(ids):
            subscriber.open(ids)
        else:
            subscriber.write(self._opening(ids))

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Forgets a subscriber. Does nothing if it is not registered."""
        topic = subscriber.topic
        if topic is None:
            return
        subscriber.topic = None
        subscriber.behind = set()  # so that nothing more is sent to it
        self.stalls.pop(subscriber, None)
        self.held.pop(subscriber, None)
        if subscriber.is_stream:
            self.ping_slots[subscriber.slot].discard(subscriber)
            self.open_streams[topic.kind] -= 1
        if subscriber.place is not None:
            subscriber.place.leave()
        self.topics.leave(subscriber, topic)
        if topic.ids is None and not topic.subscribers:
            self._pages.clear()

    def resumable(self, last_event_id: str) -> Position | None:
        """The position, if it belongs to this history and is not ahead of the hub."""
        try:
            position = Position.parse(last_event_id)
        except ValueError:
            return None
        if position.epoch != self.epoch or position.snapshot.xmax > self.seen.xmax:
            return None
        return position

    def is_ahead(self, last_event_id: str) -> bool:
        """Whether the position has this hub's epoch but is ahead of it: the client comes from
        another process."""
        try:
            position = Position.parse(last_event_id)
        except ValueError:
            return False
        return position.epoch == self.epoch and position.snapshot.xmax > self.seen.xmax

    def streams(self) -> list[Subscriber]:
        """Every open stream."""
        return [subscriber for slot in self.ping_slots for subscriber in slot]

    @contextmanager
    def waiting(self, product_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the product is published again, or the hub ends its streams.
        Clear it, read the product, and only then wait: so no change after the call is missed."""
        waiter = Waiter(self)
        self._join(waiter, (product_id,))
        self.waiters.add(waiter)
        try:
            yield waiter.changed
        finally:
            self.waiters.discard(waiter)
            self.unsubscribe(waiter)

    def stalled(self, subscriber: Subscriber) -> None:
        """Notes that a subscriber's socket is full from now on."""
        if subscriber not in self.stalls:
            self.stalls[subscriber] = self.clock(), subscriber.backlog()

    def stalled_since(self, moment: float) -> list[Subscriber]:
        """The subscribers whose clients have read nothing since this moment (`clock`), as far as
        sockets tell. For a client that has read something, the time starts again now."""
        found = []
        for subscriber, (since, before) in list(self.stalls.items()):
            if since > moment:
                break
            left = subscriber.backlog()
            if left < before:
                del self.stalls[subscriber]
                self.stalls[subscriber] = self.clock(), left  # at the end: they are in order
            else:
                found.append(subscriber)
        return found

    def recovered(self, subscriber: Subscriber) -> None:
        """Notes that a subscriber's socket has drained."""
        self.stalls.pop(subscriber, None)

    def _join(self, subscriber: Subscriber, ids: Iterable[str] | None) -> Topic:
        subscriber.topic = self.topics.join(subscriber, None if ids is None else self._sorted(ids))
        return subscriber.topic

    def _sorted(self, ids: Iterable[str]) -> tuple[str, ...]:
        """The ids in order, each once. Of a known product it is the entry's string, which is in
        memory anyway."""
        entries = self.entries
        return tuple(sorted({entries[i].id if i in entries else i for i in ids}))

    def _fits_an_event(self, ids: tuple[str, ...]) -> bool:
        size = 0
        for product_id in ids:
            entry = self.entries.get(product_id)
            if entry is not None and entry.product.is_public:
                size += len(entry.json or self.json(product_id))
        return len(ids) <= PAGE and size < MAX_BYTES

    def _opening(self, ids: tuple[str, ...]) -> Frame:
        """The snapshot of a whole topic, made once for all streams that open at the same time."""
        revisions = (self.revision, self.pending.revision)
        return self._openings.get(
            revisions, ids, lambda: self.snapshot_frame(ids, is_last=True, of=ids)
        )

    def _changed_since(self, snapshot: Snapshot, ids: Ids) -> list[str] | None:
        """Those of the products whose newest state this snapshot does not cover, and those that do
        not exist, since the snapshot may be one of other products. None if only a search of the
        whole catalogue could tell."""
        xmin = snapshot.xmin
        missing: list[str] = []
        if ids is None:
            recent = self._recent.since(xmin)
            if recent is None:
                return None
            ids = tuple(set(recent))
        else:
            missing = [product_id for product_id in ids if self.public(product_id) is None]
        changed = [
            product.id
            for product in [self.entries[i].product for i in ids if i in self.entries]
            if product.changed_xid >= xmin
            and not snapshot.sees(product.changed_xid)
            and product.published
        ]
        return [*changed, *(product_id for product_id in missing if product_id not in changed)]

    # Frames

    def snapshot_frame(self, ids: Iterable[str], *, is_last: bool, of: Ids) -> Frame:
        """A `snapshot` event of these products; products that are not public count as unknown. The
        last event of a snapshot has the position, which is one `of` all products of the stream."""
        known, unknown = [], []
        for product_id in ids:
            if self.public(product_id) is None:
                unknown.append(product_id)
            else:
                known.append(self.json(product_id))
        position = self._given_position(of) if is_last else None
        return self._snapshot(known, unknown, position)

    def page_of(self, ids: Iterable[str]) -> list[str]:
        """The first of these products, as many as fit one event."""
        page: list[str] = []
        size = 0
        for product_id in ids:
            if len(page) == PAGE or size >= _PAGE_BYTES:
                break
            page.append(product_id)
            if self.public(product_id) is not None:
                size += len(self.json(product_id))
        return page

    def catalogue_page(self, after: str) -> Page:
        """The public products that follow this id, as many as fit one event."""
        page = self._pages.get(after)
        if page is None:
            page = self._make_page(after)
            self._pages.keep(after, page)
        return page

    def last_page(self, page: Page) -> Frame:
        """The frame of a page, for a subscriber that has the whole catalogue with it."""
        position = self._given_position(None)
        body = page.frame.body
        return Frame(body) if position is None else Frame(frames.with_position(body, position))

    def _make_page(self, after: str) -> Page:
        ids = self.sorted_ids()
        known: list[bytes] = []
        size, last = 0, None
        for index in range(bisect_right(ids, after), len(ids)):
            if self.public(ids[index]) is None:
                continue
            if len(known) == PAGE or size >= _PAGE_BYTES:
                break
            known.append(self.json(ids[index]))
            size += len(known[-1])
            last = ids[index]
        else:
            last = None
        return Page(self._snapshot(known, []), last)

    def _snapshot(
        self, known: Sequence[bytes], unknown: list[str], position: str | None = None
    ) -> Frame:
        is_live, retry_ms = self.is_live, self.retry_ms
        return events.snapshot(
            known, unknown, is_live=is_live, retry_ms=retry_ms, position=position
        )

    def _given_position(self, of: Ids) -> str | None:
        # Until the streams of an earlier history have ended, no stream is given a position: it
        # would cover products that a client still has from the earlier history.
        if self.generation != self.ended_generation:
            return None
        return f"{self.position()}.{products_tag(of)}"
