"""Postgres snapshots as positions in the stream.

A snapshot says which transactions a reader has seen; its text form is Postgres' own
(`xmin:xmax:xip,…`, see "pg_snapshot" in the manual, section 9.27). On the wire a position is
`<epoch>.<snapshot>`: the epoch names the history that the transaction numbers belong to.
"""

from __future__ import annotations

from dataclasses import dataclass

_MAX_TEXT = 20_000
_MAX_IN_PROGRESS = 1_000
_MAX_XID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Sees every transaction below `xmin`, none from `xmax` on, and between them all but those
    in `in_progress`."""

    xmin: int
    xmax: int
    in_progress: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Reads the text form. Raises ValueError for anything that is not one, or is absurd."""
        if len(text) > _MAX_TEXT:
            raise ValueError("a snapshot of this length is absurd")
        xmin_text, xmax_text, in_progress_text = text.split(":")
        xmin, xmax = _xid(xmin_text), _xid(xmax_text)
        listed = [_xid(xid) for xid in in_progress_text.split(",")] if in_progress_text else []
        if len(listed) > _MAX_IN_PROGRESS:
            raise ValueError(f"more than {_MAX_IN_PROGRESS} transactions in progress")
        if xmin > xmax or any(not xmin <= xid < xmax for xid in listed):
            raise ValueError("a snapshot lies between its xmin and its xmax")
        return cls(xmin, xmax, frozenset(listed))

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.in_progress)))}"

    def sees(self, xid: int) -> bool:
        """Whether what this transaction wrote is visible, if it has committed."""
        return xid < self.xmin or (xid < self.xmax and xid not in self.in_progress)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the stream that any process, after any restart, can resume from."""

    epoch: str
    snapshot: Snapshot

    @classmethod
    def parse(cls, text: str) -> Position:
        """Reads an event's id. Raises ValueError for anything that this server never sent."""
        epoch, dot, snapshot = text.partition(".")
        if not dot or not epoch:
            raise ValueError("a position is an epoch, a dot and a snapshot")
        return cls(epoch, Snapshot.parse(snapshot))

    def __str__(self) -> str:
        return f"{self.epoch}.{self.snapshot}"


def _xid(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise ValueError("a transaction number is decimal digits")
    xid = int(text)
    if not 0 < xid <= _MAX_XID:
        raise ValueError("a transaction number is positive and fits eight bytes")
    return xid
