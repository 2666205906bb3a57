"""Postgres snapshots as positions in the stream.

A snapshot says which transactions a reader has seen; its text form is Postgres' own
(`xmin:xmax:xip,…`, see "pg_snapshot" in the manual, section 9.27). On the wire a position is
`<epoch>.<snapshot>` or `<epoch>.<snapshot>.<products>`. The epoch names the history that the
transaction numbers belong to; `products` identifies the set of products.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

__all__ = ["Position", "Snapshot", "products_tag"]

_MAX_XID: Final = 2**63 - 1
# Limits of a position, which a client sends back in a header or a query. We write less than we
# accept: many proxies take 8 KB at most of a request's head.
_MAX_TEXT: Final = 20_000
_MAX_IN_PROGRESS: Final = 1_000
_WRITTEN_IN_PROGRESS: Final = 250


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Sees every transaction below `xmin`, none from `xmax` on, and of those in between all that
    are not in `in_progress`."""

    xmin: int
    xmax: int
    in_progress: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Reads the text form, of any length. Raises ValueError for any other text."""
        xmin_text, xmax_text, in_progress_text = text.split(":")
        xmin, xmax = _xid(xmin_text), _xid(xmax_text)
        listed = [_xid(xid) for xid in in_progress_text.split(",")] if in_progress_text else []
        if xmin > xmax or any(not xmin <= xid < xmax for xid in listed):
            raise ValueError("a snapshot lies between its xmin and its xmax")
        return cls(xmin, xmax, frozenset(listed))

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.in_progress)))}"

    def sees(self, xid: int) -> bool:
        """Whether a transaction's changes are visible, provided that it has committed."""
        return xid < self.xmin or (xid < self.xmax and xid not in self.in_progress)

    def coarse(self, max_listed: int) -> Snapshot:
        """A snapshot that sees nothing more than this one and lists at most this many
        transactions."""
        if len(self.in_progress) <= max_listed:
            return self
        listed = sorted(self.in_progress)
        return Snapshot(self.xmin, listed[max_listed], frozenset(listed[:max_listed]))


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the stream that any process, after any restart, can resume from."""

    epoch: str
    snapshot: Snapshot
    products: str = ""  # see `products_tag`; empty: any products

    @classmethod
    def parse(cls, text: str) -> Position:
        """Reads an event's id. Raises ValueError for a text that this server never sends."""
        if len(text) > _MAX_TEXT:
            raise ValueError(f"a position has at most {_MAX_TEXT} characters")
        epoch, dot, rest = text.partition(".")
        snapshot, second_dot, products = rest.partition(".")
        if not dot or not epoch or (second_dot and not products.isalnum()):
            raise ValueError("a position is <epoch>.<snapshot> or <epoch>.<snapshot>.<products>")
        position = cls(epoch, Snapshot.parse(snapshot), products)
        if len(position.snapshot.in_progress) > _MAX_IN_PROGRESS:
            raise ValueError(f"more than {_MAX_IN_PROGRESS} transactions in progress")
        return position

    def __str__(self) -> str:
        """The text form, short enough to be sent back. Of very many transactions in progress only
        the first few hundred are listed; the rest count as not seen, so that a client may get a
        change twice but never misses one."""
        tag = f".{self.products}" if self.products else ""
        return f"{self.epoch}.{self.snapshot.coarse(_WRITTEN_IN_PROGRESS)}{tag}"

    def may_be_of(self, ids: Iterable[str] | None) -> bool:
        """Whether it is a position of these products (None: all), or of any products."""
        return not self.products or self.products == products_tag(ids)


def products_tag(ids: Iterable[str] | None) -> str:
    """The tag of a set of products (None: all) in a position. The ids must be sorted."""
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
