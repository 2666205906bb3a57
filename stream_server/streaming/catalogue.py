"""What streams of the whole catalogue share: pages of it, and which products changed last. So a
stream that begins or goes on costs what it is sent, and not the catalogue.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass

from stream_server.streaming.frames import Frame

_MOST_BYTES = 4_194_304  # of pages' bodies
_RECENT = 10_000  # changes that are remembered: more than a reader lacks who was away shortly


@dataclass(frozen=True, slots=True)
class Page:
    """A snapshot without a position of the products that follow one in the order of their ids.
    `last` is the id to go on from; None if nothing follows."""

    frame: Frame
    last: str | None


class Pages:
    """Pages by the id that they follow: made for the first stream that comes by and kept for those
    behind it, until a product of theirs changes."""

    def __init__(self) -> None:
        self._pages: dict[str, Page] = {}
        self._bytes = 0

    def get(self, after: str) -> Page | None:
        """The page, if it is kept."""
        return self._pages.get(after)

    def keep(self, after: str, page: Page) -> None:
        """Keeps a page, in the place of the oldest ones."""
        self._pages[after] = page
        self._bytes += len(page.frame.body)
        while self._bytes > _MOST_BYTES:
            self._forget(next(iter(self._pages)))

    def changed(self, product_id: str) -> None:
        """A product looks different, so a page is void. After the last page anything may begin."""
        if not self._pages:
            return
        for after, page in list(self._pages.items()):
            if after < product_id and (page.last is None or product_id <= page.last):
                self._forget(after)

    def clear(self) -> None:
        """All pages are void."""
        self._pages.clear()
        self._bytes = 0

    def _forget(self, after: str) -> None:
        self._bytes -= len(self._pages.pop(after).frame.body)


class Recent:
    """The products whose last changes have the highest transaction numbers."""

    def __init__(self) -> None:
        self._changes: list[tuple[int, str]] = []
        self._floor = 0  # all changes from this transaction on are here
        self._room = 0  # entries until the older ones of a product are looked for

    def fill(self, changes: Iterable[tuple[int, str]]) -> None:
        """Begins anew, with the last change of every product."""
        self._changes = sorted(changes)
        self._floor = 0
        self._forget()

    def add(self, xid: int, product_id: str) -> None:
        """A product has changed."""
        insort(self._changes, (xid, product_id))
        if len(self._changes) > self._room:
            newest = {product_id: xid for xid, product_id in self._changes}
            self._changes = sorted((xid, product_id) for product_id, xid in newest.items())
            self._forget()

    def since(self, xid: int) -> list[str] | None:
        """The products that changed in this transaction or a later one, some of them more than
        once, and maybe none that did not; None if that is not known any more."""
        if xid < self._floor:
            return None
        first = bisect_left(self._changes, (xid, ""))
        return [product_id for _, product_id in self._changes[first:]]

    def _forget(self) -> None:
        if len(self._changes) > _RECENT:
            self._floor = self._changes[-_RECENT - 1][0] + 1
            del self._changes[:-_RECENT]
        self._room = 2 * len(self._changes) + 500
