"""Who may have a connection: no kind of work can take all of them.

Ten carts that wait for one locked row shall not stop orders, nor the pages. So of all connections
each kind of work is sure of a few, and any kind may have the rest.
"""

import asyncio
import math
from collections import Counter, deque
from enum import Enum, auto

__all__ = ["Shares", "Work"]


class Work(Enum):
    """The kinds: what only reads; what changes stock and may wait for a row; what sells what has
    been paid for (orders, webhooks)."""

    READING = auto()
    CHANGING = auto()
    SELLING = auto()


class Shares:
    """`size` connections. Where they are `shared`, and there are enough, each kind of work is sure
    of a fifth of them."""

    def __init__(self, size: int, *, shared: bool = True) -> None:
        self._size = size
        self._kept = size // 5 if shared else 0
        self._in_use: Counter[Work] = Counter()
        self._waiting: deque[tuple[Work, asyncio.Future[None]]] = deque()

    @property
    def in_use(self) -> int:
        """Connections that were taken and not given back."""
        return self._in_use.total()

    @property
    def waiting(self) -> int:
        """Who waits for one."""
        return sum(not turn.done() for _, turn in self._waiting)

    async def take(self, work: Work, patience: float) -> None:
        """One connection; `give` it back. Raises TimeoutError when none came free in `patience`
        seconds. Within a kind of work, who came first is served first."""
        if self._has_one(work) and not any(kind is work for kind, _ in self._waiting):
            self._in_use[work] += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, turn))
        try:
            async with asyncio.timeout(patience if patience < math.inf else None):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # it was served just when it gave up
                self.give(work)
            raise

    def give(self, work: Work) -> None:
        """Give one back that was taken."""
        self._in_use[work] -= 1
        self._serve()

    def _has_one(self, work: Work) -> bool:
        others = sum(max(0, self._kept - self._in_use[kind]) for kind in Work if kind is not work)
        return self._in_use.total() + others < self._size

    def _serve(self) -> None:
        """Give what is free to those who wait for it."""
        passed: deque[tuple[Work, asyncio.Future[None]]] = deque()
        while self._waiting:
            work, turn = self._waiting.popleft()
            if turn.done():
                continue
            if self._has_one(work):
                self._in_use[work] += 1
                turn.set_result(None)
            else:
                passed.append((work, turn))
        self._waiting = passed
