"""Postgres snapshots as positions in the stream.

A snapshot says which transactions a reader has seen; its text form is Postgres' own
(`xmin:xmax:xip,…`, see "pg_snapshot" in the manual, section 9.27). On the wire a position is
`<epoch>.<snapshot>`: the epoch names the history that the transaction numbers belong to. A third
part, where there is one, says of which products it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

_MAX_XID = 2**63 - 1
# Of a position, which a client sends back in a header or a query. We write fewer than we read:
# proxies give a request's head 8 KB or less.
_MAX_TEXT = 20_000
_MAX_IN_PROGRESS = 1_000
_WRITTEN_IN_PROGRESS = 250


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Sees every transaction below `xmin`, none from `xmax` on, and between them all but those
    in `in_progress`."""

    xmin: int
    xmax: int
    in_progress: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Reads the text form, however long. Raises ValueError for anything that is not one."""
        xmin_text, xmax_text, in_progress_text = text.split(":")
        xmin, xmax = _xid(xmin_text), _xid(xmax_text)
        listed = [_xid(xid) for xid in in_progress_text.split(",")] if in_progress_text else []
        if xmin > xmax or any(not xmin <= xid < xmax for xid in listed):
            raise ValueError("a snapshot lies between its xmin and its xmax")
        return cls(xmin, xmax, frozenset(listed))

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.in_progress)))}"

    def sees(self, xid: int) -> bool:
        """Whether what this transaction wrote is visible, if it has committed."""
        return xid < self.xmin or (xid < self.xmax and xid not in self.in_progress)

    def coarse(self, most: int) -> Snapshot:
        """One that sees nothing more and lists so many transactions at most."""
        if len(self.in_progress) <= most:
            return self
        listed = sorted(self.in_progress)
        return Snapshot(self.xmin, listed[most], frozenset(listed[:most]))


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the stream that any process, after any restart, can resume from."""

    epoch: str
    snapshot: Snapshot
    products: str = ""  # see `products_tag`; empty: it does not say

    @classmethod
    def parse(cls, text: str) -> Position:
        """Reads an event's id. Raises ValueError for anything that this server never sent."""
        if len(text) > _MAX_TEXT:
            raise ValueError("a position of this length is absurd")
        epoch, dot, rest = text.partition(".")
        snapshot, second_dot, products = rest.partition(".")
        if not dot or not epoch or (second_dot and not products.isalnum()):
            raise ValueError(
                "a position is an epoch, a dot and a snapshot, perhaps a dot and a tag"
            )
        position = cls(epoch, Snapshot.parse(snapshot), products)
        if len(position.snapshot.in_progress) > _MAX_IN_PROGRESS:
            raise ValueError(f"more than {_MAX_IN_PROGRESS} transactions in progress")
        return position

    def __str__(self) -> str:
        """Short enough to be sent back: of very many transactions in progress, those that began
        after the first few hundred count as not seen, so that a client gets more than it lacks."""
        tag = f".{self.products}" if self.products else ""
        return f"{self.epoch}.{self.snapshot.coarse(_WRITTEN_IN_PROGRESS)}{tag}"

    def may_be_of(self, ids: Iterable[str] | None) -> bool:
        """Whether it says that it is of these products (None: all), or does not say."""
        return not self.products or self.products == products_tag(ids)


def products_tag(ids: Iterable[str] | None) -> str:
    """What tells this set of products (None: all) from others in a position; the ids are sorted."""
    if ids is None:
        return "all"
    return blake2b("\0".join(ids).encode(), digest_size=5).hexdigest()


def _xid(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise ValueError("a transaction number is decimal digits")
    xid = int(text)
    if not 0 < xid <= _MAX_XID:
        raise ValueError("a transaction number is positive and fits eight bytes")
    return xid
