"""Shared by streams of the whole catalogue: pages of products, and the products that changed last.

So a stream that begins or resumes costs as much as it is sent, and not as much as the catalogue.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from stream_server.streaming.frames import Frame

__all__ = ["Page", "Pages", "Recent"]

_MAX_BYTES: Final = 4_194_304  # of pages' bodies
_RECENT: Final = 10_000  # changes kept: more than a client misses that was away shortly


@dataclass(frozen=True, slots=True)
class Page:
    """A snapshot, without a position, of the products that follow an id. `last` is the id of its
    last product; None if no product follows."""

    frame: Frame
    last: str | None


class Pages:
    """Pages by the id that they follow. A page is made for the first stream that needs it, and
    kept for later streams until one of its products changes."""

    def __init__(self) -> None:
        self._pages: dict[str, Page] = {}
        self._bytes = 0

    def get(self, after: str) -> Page | None:
        """The page, if it is kept."""
        return self._pages.get(after)

    def keep(self, after: str, page: Page) -> None:
        """Keeps a page, and drops the oldest pages where there are too many bytes."""
        self._pages[after] = page
        self._bytes += len(page.frame.body)
        while self._bytes > _MAX_BYTES:
            self._forget(next(iter(self._pages)))

    def changed(self, product_id: str) -> None:
        """Drops the page that shows a product, or would show it: the last page has no end."""
        if not self._pages:
            return
        for after, page in list(self._pages.items()):
            if after < product_id and (page.last is None or product_id <= page.last):
                self._forget(after)

    def clear(self) -> None:
        """Drops all pages."""
        self._pages.clear()
        self._bytes = 0

    def _forget(self, after: str) -> None:
        self._bytes -= len(self._pages.pop(after).frame.body)


class Recent:
    """The products whose last changes have the highest transaction numbers."""

    def __init__(self) -> None:
        self._changes: list[tuple[int, str]] = []
        self._floor = 0  # every change since this transaction is in the list
        self._room = 0  # length of the list at which a product's older changes are removed

    def fill(self, changes: Iterable[tuple[int, str]]) -> None:
        """Replaces the list by the last change of every product."""
        self._changes = sorted(changes)
        self._floor = 0
        self._forget()

    def add(self, xid: int, product_id: str) -> None:
        """Adds a product's change."""
        insort(self._changes, (xid, product_id))
        if len(self._changes) > self._room:
            newest = {product_id: xid for xid, product_id in self._changes}
            self._changes = sorted((xid, product_id) for product_id, xid in newest.items())
            self._forget()

    def since(self, xid: int) -> list[str] | None:
        """The products that changed in this transaction or a later one, some of them more than
        once; None if the list does not go back so far."""
        if xid < self._floor:
            return None
        first = bisect_left(self._changes, (xid, ""))
        return [product_id for _, product_id in self._changes[first:]]

    def _forget(self) -> None:
        if len(self._changes) > _RECENT:
            self._floor = self._changes[-_RECENT - 1][0] + 1
            del self._changes[:-_RECENT]
        self._room = 2 * len(self._changes) + 500
