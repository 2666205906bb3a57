"""Transactions: what can be asked of one, and how one is run again after a conflict."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, TypeVar

from stream_server.errors import TransactionConflict

__all__ = [
    "LOCK_SECONDS",
    "Queries",
    "Row",
    "Runner",
    "Transaction",
    "Values",
    "in_transaction",
    "retry",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[object]]
Row = Mapping[str, Any]  # a column's type is known to its query only
Values = Mapping[str, object]

LOCK_SECONDS: Final = 3.0  # for which a statement waits for a lock


class Queries(Protocol):
    """What can be asked of a pool and of a transaction alike."""

    async def fetch_all(self, query: str, values: Values | None = None) -> list[Row]: ...

    async def fetch_one(self, query: str, values: Values | None = None) -> Row | None: ...

    async def fetch_val(self, query: str, values: Values | None = None) -> Any:
        """The first column of the first row; None if there is no row."""

    async def execute(self, query: str, values: Values | None = None) -> None: ...


class Transaction(Queries, Protocol):
    """What a transaction can do besides: bulk work, and parts of it that are undone alone."""

    async def run_query(self, query: str, *values: object) -> list[Row]:
        """The rows of a query whose values are `$1`, `$2`, …."""

    async def run_script(self, script: str) -> None:
        """Statements without values, one after the other."""

    async def copy_rows(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        """COPY rows into a temporary table: the fastest way in."""

    async def wait_longer(self, *, statement: float, lock: float) -> None:
        """From here on a statement of this transaction may take so many seconds, and wait so many
        for a lock."""

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Undo the block if it raises, and only that; locks taken in it are given back."""


class Runner(Protocol):
    """What runs transactions: a pool, or a share of it."""

    async def run(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """`work` in one transaction, once; `in_transaction` is for when it may be tried again."""


async def in_transaction(
    pool: Runner,
    work: Callable[[Transaction], Awaitable[T]],
    *,
    attempts: int = 5,
    sleep: Sleep = asyncio.sleep,
    rng: random.Random | None = None,
) -> T:
    """What `work` returns; its changes are one transaction (READ COMMITTED), committed on return.

    After a deadlock, a serialization failure or a lock that was not available (SQLSTATE 40P01,
    40001, 55P03) the whole transaction is run again, `attempts` times at most, so `work` must have
    no effect outside of the database. Between two tries it waits with full jitter, up to 20, 40,
    80 … ms. Any other error rolls back and is raised.

    Raises TransactionConflict when the last attempt met a conflict too; DatabaseUnavailable.
    """
    return await retry(lambda: pool.run(work), attempts=attempts, sleep=sleep, rng=rng)


async def retry(
    transact: Callable[[], Awaitable[T]],
    *,
    attempts: int = 5,
    sleep: Sleep = asyncio.sleep,
    rng: random.Random | None = None,
) -> T:
    """As `in_transaction`, for a call that is a whole transaction itself: one statement of a pool
    is one, without the round trips of BEGIN and COMMIT in which its locks would be held.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    for attempt in range(1, attempts + 1):
        try:
            return await transact()
        except TransactionConflict:
            # Whoever has waited for a lock until its time was up waits no longer.
            if attempt == attempts or loop.time() - began >= LOCK_SECONDS / 2:
                raise
            logger.info("Transaction met a conflict; attempt %d of %d", attempt + 1, attempts)
        await sleep((rng or random).uniform(0, 0.02 * 2 ** (attempt - 1)))
    raise ValueError("attempts must be at least 1")
