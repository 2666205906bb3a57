"""Transactions: their interface, and their repetition after a conflict."""

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
Row = Mapping[str, Any]  # only the query knows a column's type
Values = Mapping[str, object]

LOCK_SECONDS: Final = 3.0  # a statement waits this long for a lock


class Queries(Protocol):
    """The queries of a pool and of a transaction."""

    async def fetch_all(self, query: str, values: Values | None = None) -> list[Row]: ...

    async def fetch_one(self, query: str, values: Values | None = None) -> Row | None: ...

    async def fetch_val(self, query: str, values: Values | None = None) -> Any:
        """Returns the first column of the first row; None if there is no row."""

    async def execute(self, query: str, values: Values | None = None) -> None: ...


class Transaction(Queries, Protocol):
    """The additional methods of a transaction: bulk work and savepoints."""

    async def run_query(self, query: str, *values: object) -> list[Row]:
        """Returns the rows of a query with the positional values `$1`, `$2`, …."""

    async def run_script(self, script: str) -> None:
        """Runs statements without values, one after the other."""

    async def copy_rows(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        """Copies rows into a temporary table with COPY, the fastest way."""

    async def wait_longer(self, *, statement: float, lock: float) -> None:
        """Sets the time limits of this transaction's further statements: seconds for the whole
        `statement`, and for the wait for a `lock`."""

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Undoes only the block if it raises, and releases the locks taken in it."""


class Runner(Protocol):
    """The interface for running transactions: a pool, or a share of it."""

    async def run(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Runs `work` in one transaction, once; `in_transaction` repeats it after a conflict."""


async def in_transaction(
    pool: Runner,
    work: Callable[[Transaction], Awaitable[T]],
    *,
    attempts: int = 5,
    sleep: Sleep = asyncio.sleep,
    rng: random.Random | None = None,
) -> T:
    """Runs `work` in one transaction (READ COMMITTED), commits it, and returns its result.

    After a deadlock, a serialization failure or a lock time-out (SQLSTATE 40P01, 40001, 55P03) the
    whole transaction runs again, at most `attempts` times, so `work` must have no effect outside of
    the database. The pauses between attempts have full jitter, up to 20, 40, 80 … ms. Any other
    error rolls back and is raised.

    Raises TransactionConflict if the last attempt met a conflict, too, and DatabaseUnavailable.
    """
    return await retry(lambda: pool.run(work), attempts=attempts, sleep=sleep, rng=rng)


async def retry(
    transact: Callable[[], Awaitable[T]],
    *,
    attempts: int = 5,
    sleep: Sleep = asyncio.sleep,
    rng: random.Random | None = None,
) -> T:
    """Repeats `transact` after a conflict, as `in_transaction` does.

    It is for calls that are whole transactions, such as one statement on a pool: this saves the
    round trips of BEGIN and COMMIT, during which the statement's locks would be held.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    for attempt in range(1, attempts + 1):
        try:
            return await transact()
        except TransactionConflict:
            # Do not wait again after a lock time-out.
            if attempt == attempts or loop.time() - began >= LOCK_SECONDS / 2:
                raise
            logger.info("Transaction met a conflict; attempt %d of %d", attempt + 1, attempts)
        await sleep((rng or random).uniform(0, 0.02 * 2 ** (attempt - 1)))
    raise ValueError("attempts must be at least 1")
