"""Changes that have not been published yet, and the newest snapshot that covers none of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import Final

from stream_server.streaming import events
from stream_server.streaming.cursor import Snapshot
from stream_server.streaming.events import Encoder
from stream_server.streaming.products import Product, ProductEntry

__all__ = ["Pending", "PendingChanges"]

_MAX_RETRY: Final = 60.0  # seconds until a product that cannot be published is tried again


@dataclass(slots=True)
class Pending:
    """A product that has changed and was not published yet.

    A client that comes from another process may know the product as it was in between. So of the
    states in between, this keeps the variants that differed, whether the product was public in any
    of them, and whether it was hidden in any.
    """

    entry: ProductEntry
    before: Product | None  # as the public knows it
    seen_before: Snapshot  # the hub's, before the change
    changed_at: float  # seconds since 1970
    due: float  # when it may be published, by `clock`
    number: int  # its place in the order of changes
    failures: int = 0
    differed: frozenset[str] = frozenset()
    was_public: bool = False
    was_hidden: bool = False

    def pass_by(self, encoder: Encoder, passed: Product | None, product: Product) -> None:
        """Notes a state that is over before it was published, and the one that follows it."""
        if not (self.was_public or self.was_hidden):  # the first one
            self.differed |= events.different_variants(encoder, self.before, passed)
        self.differed |= events.different_variants(encoder, passed, product)
        if passed is not None and passed.is_public:
            self.was_public = True
        else:
            self.was_hidden = True

    def join(self, encoder: Encoder, newer: Pending) -> None:
        """Takes over a later change of the same product."""
        self.pass_by(encoder, newer.before, self.entry.product)
        self.differed |= newer.differed
        self.was_public |= newer.was_public
        self.was_hidden |= newer.was_hidden

    def as_events(self, encoder: Encoder) -> bytes:
        """The events that tell the public of the change: a status that differs, each variant that
        looks different, and the product. Empty if the product neither was nor is public."""
        before, after = self.before, self.entry.product
        was_public = before is not None and before.is_public
        if not after.is_public:
            if was_public or self.was_public:
                return events.status_changed(encoder, after)
            return b""
        told = []
        if before is not None and before.status != after.status:
            told.append(events.status_changed(encoder, after))
        known = before if was_public and not self.was_hidden else None
        variants = events.different_variants(encoder, known, after) | self.differed
        return b"".join([*told, *events.updated(encoder, after, variants)])


class PendingChanges:
    """The pending changes of shown products, in the order in which they came.

    While some are being published, no position covers them: a subscriber may still have to get
    them. After that the product is not published again for `conflate` seconds.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        conflate: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._encoder = encoder
        self._conflate = conflate
        self._clock = clock
        self._changes: dict[str, Pending] = {}
        self._numbers = count()
        self._publishing_from: Snapshot | None = None
        self.revision = 0  # rises with whatever `covered` gives

    def __len__(self) -> int:
        return len(self._changes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._changes)

    @property
    def is_publishing(self) -> bool:
        """Whether changes are on their way to subscribers."""
        return self._publishing_from is not None

    @property
    def next_due(self) -> float | None:
        """When the first is due (`clock`); None if none is pending."""
        return min((each.due for each in self._changes.values()), default=None)

    def due(self, max_number: int) -> list[str]:
        """The products that may be published now, the oldest changes first."""
        now = self._clock()
        due = (i for i, pending in self._changes.items() if pending.due <= now)
        return list(islice(due, max_number))

    def note(
        self, entry: ProductEntry, before: Product | None, seen: Snapshot, *, is_shown: bool
    ) -> None:
        """Takes a change of a product, which was `before`, after this snapshot. One that nobody is
        shown is not kept, unless an earlier one of the product is pending."""
        pending = self._changes.get(entry.id)
        if pending is not None:
            pending.pass_by(self._encoder, before, entry.product)
        elif is_shown:
            due = max(self._clock(), entry.not_before)
            changed_at = entry.product.updated_at.timestamp()
            number = next(self._numbers)
            self._changes[entry.id] = Pending(entry, before, seen, changed_at, due, number)

    def take(self, product_ids: Iterable[str], seen: Snapshot) -> dict[str, Pending]:
        """Takes products out, to publish them. Until `finish`, nobody is given a position that
        covers them."""
        self.revision += 1
        self._publishing_from = self.published(seen)
        return {product_id: self._changes.pop(product_id) for product_id in product_ids}

    def put_back(self, taken: Mapping[str, Pending]) -> None:
        """These could not be published, and are tried again later. Meanwhile no position covers
        them."""
        for product_id, pending in taken.items():
            pending.failures += 1
            if (newer := self._changes.get(product_id)) is not None:
                pending.join(self._encoder, newer)
            pending.due = self._clock() + min(_MAX_RETRY, 0.5 * 2**pending.failures)
        everything = {**self._changes, **taken}.items()
        self._changes = dict(sorted(everything, key=lambda item: item[1].number))

    def finish(self, taken: Iterable[Pending]) -> None:
        """These were sent to everybody. They are not published again for `conflate` seconds."""
        self.revision += 1
        self._publishing_from = None
        not_before = self._clock() + self._conflate
        for each in taken:
            each.entry.not_before = not_before
            pending = self._changes.get(each.entry.id)
            if pending is not None:
                pending.due = max(pending.due, not_before)

    def clear(self) -> None:
        """Forgets all: they belong to another history."""
        self.revision += 1
        self._changes.clear()
        self._publishing_from = None

    def published(self, seen: Snapshot) -> Snapshot:
        """The newest snapshot, of those until `seen`, that covers no pending change."""
        for oldest in self._changes.values():
            return oldest.seen_before
        return seen

    def covered(self, seen: Snapshot) -> Snapshot:
        """Like `published`, and it covers none that is being published."""
        return self._publishing_from or self.published(seen)
