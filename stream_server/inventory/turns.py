"""Turns at a product: a limit on the transactions of a process that compete for the same row.

Without it, all of them would wait in Postgres, each with a connection.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from stream_server.errors import DatabaseUnavailable

__all__ = ["Turns"]


class Turns:
    """A limit of `max_turns` concurrent turns at each product. A task that waits longer than
    `patience` seconds is refused."""

    def __init__(self, max_turns: int, patience: float) -> None:
        self._max_turns = max_turns
        self._patience = patience
        self._free: dict[str, asyncio.Semaphore] = {}
        self._wanted: Counter[str] = Counter()

    @asynccontextmanager
    async def at(self, product_ids: Iterable[str]) -> AsyncIterator[None]:
        """Holds a turn at each of these products during the block; takes them in the order of ids.

        Raises DatabaseUnavailable.
        """
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._patience):
                    for product_id in sorted(set(product_ids)):
                        await stack.enter_async_context(self._turn(product_id))
            except TimeoutError:
                raise DatabaseUnavailable(
                    f"Other requests kept these products busy for {self._patience:g} s; try again"
                ) from None
            yield

    @asynccontextmanager
    async def _turn(self, product_id: str) -> AsyncIterator[None]:
        self._wanted[product_id] += 1
        try:
            async with self._free.setdefault(product_id, asyncio.Semaphore(self._max_turns)):
                yield
        finally:
            self._wanted[product_id] -= 1
            if not self._wanted[product_id]:
                del self._wanted[product_id], self._free[product_id]
