"""The pool of connections, and the only place that knows the library behind it.

    pool = Pool(url, max_size=10)
    await pool.connect()
    row = await pool.fetch_one("select name from products where id = :id", {"id": "Unit-8x8x8"})

    async def sell(connection: Queries) -> int:
        return await connection.fetch_val("select sell(:id)", {"id": "Unit-8x8x8"})

    left = await in_transaction(pool, sell)

Values are named with a colon and never formatted into the SQL; a cast is `cast(:x as jsonb)`.
Inside a transaction's task, the pool's own methods take part in that transaction. What Postgres or
the network refuses comes out as an error of `errors.py`, by the table below. Passwords stay in
here: log lines and messages show `redact(url)`.
"""

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any, Protocol, TypeVar

import asyncpg
import databases

from stream_server.database.refusals import REFUSALS
from stream_server.database.urls import redact
from stream_server.errors import DatabaseUnavailable, StreamServerError, TransactionConflict

__all__ = [
    "Pool",
    "Queries",
    "Row",
    "Transaction",
    "in_transaction",
    "redact",
    "retried",
    "translate",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[object]]
Row = Mapping[str, Any]  # a column's type is known to its query only
Values = Mapping[str, object]

# SQLSTATE to error: https://www.postgresql.org/docs/current/errcodes-appendix.html
# A key of five characters is one code, one of two characters is its whole class.
ERRORS: Mapping[str, Callable[[asyncpg.PostgresError], StreamServerError]] = {
    **REFUSALS,
    "40P01": lambda _: TransactionConflict(),  # deadlock_detected
    "40001": lambda _: TransactionConflict(),  # serialization_failure
    "55P03": lambda _: TransactionConflict(),  # lock_not_available
    "08": lambda error: DatabaseUnavailable(f"The connection to Postgres broke: {error}"),
    "28": lambda error: DatabaseUnavailable(f"Postgres does not let us in: {error}"),
    "3D000": lambda error: DatabaseUnavailable(f"Postgres has no such database: {error}"),
    "53300": lambda error: DatabaseUnavailable(f"Postgres is full: {error}"),
    "57P": lambda error: DatabaseUnavailable(f"Postgres is not ready: {error}"),
}
# At a start, these won't get better by waiting.
HOPELESS = ("28", "3D000")

DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)

COMMAND_TIMEOUT = 60.0  # seconds for one statement; a dead peer must not hold a connection for ever


def translate(error: Exception) -> StreamServerError | None:
    """The domain's error for one of the driver or the network; None if it is none of these."""
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate:
        for key in (error.sqlstate, error.sqlstate[:3], error.sqlstate[:2]):
            if key in ERRORS:
                return ERRORS[key](error)
        return None
    if isinstance(error, TimeoutError):
        return DatabaseUnavailable("Postgres did not answer in time")
    if isinstance(error, OSError):
        return DatabaseUnavailable(f"Postgres cannot be reached: {error.strerror or error}")
    if isinstance(error, asyncpg.InternalClientError) or (
        # Of a connection that Postgres ended while it was idle, asyncpg may say any of these.
        type(error) is asyncpg.InterfaceError and re.search("closed|closing|released", str(error))
    ):
        return DatabaseUnavailable("The connection to Postgres is closed")
    return None


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DRIVER_ERRORS as error:
        if (known := translate(error)) is None:
            raise
        raise known from error


class Queries(Protocol):
    """What can be asked of a pool and of a transaction alike."""

    async def fetch_all(self, query: str, values: Values | None = None) -> list[Row]: ...

    async def fetch_one(self, query: str, values: Values | None = None) -> Row | None: ...

    async def fetch_val(self, query: str, values: Values | None = None) -> Any:
        """The first column of the first row; None if there is no row."""

    async def execute(self, query: str, values: Values | None = None) -> None: ...


class Transaction(Queries, Protocol):
    """What a transaction can do besides: bulk work, and parts of it that are undone alone."""

    async def run_query(
        self, query: str, *values: object, timeout: float = COMMAND_TIMEOUT
    ) -> list[Row]:
        """The rows of a query whose values are `$1`, `$2`, …; it may take `timeout` seconds."""

    async def run_script(self, script: str, *, timeout: float = COMMAND_TIMEOUT) -> None:
        """Statements without values, one after the other; all may take `timeout` seconds."""

    async def copy_rows(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        """COPY rows into a table: the fastest way in."""

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Undo the block if it raises, and only that; locks taken in it are given back."""


async def _keep_session(_: object) -> None:
    """What asyncpg does to a connection that comes back, once it has ended its transaction.

    Nothing that this program does outlives a transaction: settings are local, locks are the
    transaction's, the pool does not listen. So the round trip that would reset them is saved.
    """


class _Connection:
    """One connection, borrowed; what `in_transaction` hands to its work."""

    def __init__(self, connection: databases.core.Connection) -> None:
        self._connection = connection

    @property
    def raw(self) -> Any:  # asyncpg's own; `databases` does not type it
        return self._connection.raw_connection

    async def fetch_all(self, query: str, values: Values | None = None) -> list[Row]:
        with _translated():
            records = await self._connection.fetch_all(query, dict(values or {}))
        return [dict(record._mapping) for record in records]

    async def fetch_one(self, query: str, values: Values | None = None) -> Row | None:
        with _translated():
            record = await self._connection.fetch_one(query, dict(values or {}))
        return None if record is None else dict(record._mapping)

    async def fetch_val(self, query: str, values: Values | None = None) -> Any:
        with _translated():
            return await self._connection.fetch_val(query, dict(values or {}))

    async def execute(self, query: str, values: Values | None = None) -> None:
        with _translated():
            await self._connection.execute(query, dict(values or {}))

    async def run_query(
        self, query: str, *values: object, timeout: float = COMMAND_TIMEOUT
    ) -> list[Row]:
        with _translated():
            records = await self.raw.fetch(query, *values, timeout=timeout)
        return [dict(record) for record in records]

    async def run_script(self, script: str, *, timeout: float = COMMAND_TIMEOUT) -> None:
        with _translated():
            await self.raw.execute(script, timeout=timeout)

    async def copy_rows(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        with _translated():
            await self.raw.copy_records_to_table(table, columns=columns, records=rows)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        with _translated():
            async with self.raw.transaction():
                yield


class Pool:
    """At most `max_size` connections to the database at `url` (asyncpg's URLs, so also a Unix
    socket's: `postgresql://user:@/db?host=/dir`). Opened by `connect`, closed by `disconnect`.
    """

    def __init__(self, url: str, *, max_size: int = 10) -> None:
        self.place = redact(url)
        # The URL goes past `databases`, straight to asyncpg: all of its options count then, not
        # only the few that `databases` parses, and `databases` logs an address without a password.
        self._database = databases.Database(
            "postgresql://",
            dsn=url,
            database=None,
            min_size=1,
            max_size=max_size,
            command_timeout=COMMAND_TIMEOUT,
            reset=_keep_session,
            server_settings={"application_name": "stream-server"},
        )

    @property
    def is_connected(self) -> bool:
        """Whether `connect` has succeeded. It does not say that Postgres still answers."""
        return self._database.is_connected

    async def connect(
        self,
        *,
        patience: float | None = 0.0,
        sleep: Sleep = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        """Open the pool. While Postgres does not answer, try again for `patience` seconds (None:
        for ever), waiting from 0.1 to 5 s in between with jitter, and log each try's failure.

        Raises DatabaseUnavailable, at once for what waiting won't mend: a wrong password, an
        unknown database.
        """
        rng = rng or random.Random()
        delay, waited = 0.1, 0.0
        while True:
            try:
                await self._database.connect()
            except ValueError:
                # Its text may quote the URL, and with it the password: no cause is chained.
                raise DatabaseUnavailable(f"{self.place} is no address of a Postgres") from None
            except DRIVER_ERRORS as error:
                reason = translate(error) or DatabaseUnavailable(str(error))
                failure = DatabaseUnavailable(f"{self.place}: {reason.message}")
                state = getattr(error, "sqlstate", None) or ""
                hopeless = state.startswith(HOPELESS)
                if hopeless or (patience is not None and waited >= patience):
                    raise failure from error
            else:
                logger.info("Connected to %s", self.place)
                return
            pause = rng.uniform(delay / 2, delay)
            logger.warning("%s; next try in %.1f s", failure.message, pause)
            await sleep(pause)
            waited, delay = waited + pause, min(delay * 2, 5.0)

    async def disconnect(self) -> None:
        """Close all connections, waiting for those in use."""
        await self._database.disconnect()

    async def __aenter__(self) -> "Pool":
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.disconnect()

    async def fetch_all(self, query: str, values: Values | None = None) -> list[Row]:
        async with self._borrowed() as connection:
            return await connection.fetch_all(query, values)

    async def fetch_one(self, query: str, values: Values | None = None) -> Row | None:
        async with self._borrowed() as connection:
            return await connection.fetch_one(query, values)

    async def fetch_val(self, query: str, values: Values | None = None) -> Any:
        async with self._borrowed() as connection:
            return await connection.fetch_val(query, values)

    async def execute(self, query: str, values: Values | None = None) -> None:
        async with self._borrowed() as connection:
            await connection.execute(query, values)

    async def run(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """`work` in one transaction, once; `in_transaction` is for when it may be tried again."""
        async with self._borrowed() as borrowed:
            # asyncpg's transaction: `databases` never gives back a connection whose COMMIT failed.
            raw: asyncpg.Connection[Any] = borrowed.raw
            if raw.is_in_transaction():
                raise RuntimeError("transactions don't nest: a part of one cannot be tried again")
            transaction = raw.transaction()
            with _translated():
                await transaction.start()
            try:
                result = await work(borrowed)
            except BaseException:
                with suppress(*DRIVER_ERRORS):
                    await transaction.rollback()
                raise
            with _translated():
                await transaction.commit()
            return result

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[_Connection]:
        """The connection of this task, if it has one already; else a free one."""
        if not self.is_connected:
            raise DatabaseUnavailable(f"{self.place}: not connected yet")
        connection = self._database.connection()
        with _translated():
            await connection.__aenter__()
        try:
            yield _Connection(connection)
        finally:
            try:
                await connection.__aexit__()
            except DRIVER_ERRORS:
                # It is dead, and asyncpg has thrown it away; `databases` would go on using it.
                self._database._connection = None


async def in_transaction(
    pool: Pool,
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
    return await retried(lambda: pool.run(work), attempts=attempts, sleep=sleep, rng=rng)


async def retried(
    transact: Callable[[], Awaitable[T]],
    *,
    attempts: int = 5,
    sleep: Sleep = asyncio.sleep,
    rng: random.Random | None = None,
) -> T:
    """As `in_transaction`, for a call that is a whole transaction itself: one statement of a pool
    is one, without the round trips of BEGIN and COMMIT in which its locks would be held.
    """
    for attempt in range(1, attempts + 1):
        try:
            return await transact()
        except TransactionConflict:
            if attempt == attempts:
                raise
            logger.info("Transaction met a conflict; attempt %d of %d", attempt + 1, attempts)
        await sleep((rng or random).uniform(0, 0.02 * 2 ** (attempt - 1)))
    raise ValueError("attempts must be at least 1")
