"""The shares of a pool's connections: no kind of work can take all of them.

Ten carts that wait for one locked row must not stop orders or pages. So a few connections are
reserved for each kind of work, and any kind may use the rest.
"""

import asyncio
import math
from collections import Counter, deque
from enum import Enum, auto

__all__ = ["Shares", "Work"]


class Work(Enum):
    """The kinds of work: reading; changing stock, which may wait for a row; and completing paid
    orders (orders, webhooks)."""

    READING = auto()
    CHANGING = auto()
    SELLING = auto()


class Shares:
    """A counter of `size` connections. If they are `shared`, a fifth of them, rounded down, is
    reserved for each kind of work."""

    def __init__(self, size: int, *, shared: bool = True) -> None:
        self._size = size
        self._kept = size // 5 if shared else 0
        self._in_use: Counter[Work] = Counter()
        self._waiting: deque[tuple[Work, asyncio.Future[None]]] = deque()

    @property
    def in_use(self) -> int:
        """The number of connections that are taken."""
        return self._in_use.total()

    @property
    def waiting(self) -> int:
        """The number of tasks that wait for a connection."""
        return sum(not turn.done() for _, turn in self._waiting)

    async def take(self, work: Work, patience: float) -> None:
        """Takes one connection, which `give` returns. Within a kind of work, tasks are served in
        order of arrival.

        Raises TimeoutError if no connection became free in `patience` seconds.
        """
        if self._has_one(work) and not any(kind is work for kind, _ in self._waiting):
            self._in_use[work] += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, turn))
        try:
            async with asyncio.timeout(patience if patience < math.inf else None):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # served at the moment of giving up
                self.give(work)
            raise

    def give(self, work: Work) -> None:
        """Returns a connection that was taken."""
        self._in_use[work] -= 1
        self._serve()

    def _has_one(self, work: Work) -> bool:
        others = sum(max(0, self._kept - self._in_use[kind]) for kind in Work if kind is not work)
        return self._in_use.total() + others < self._size

    def _serve(self) -> None:
        """Gives free connections to waiting tasks."""
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
