"""The pool of connections. Only this module knows the library behind it.

    pool = Pool(url, max_size=10)
    await pool.connect()
    row = await pool.fetch_one("select name from products where id = :id", {"id": "Unit-8x8x8"})

    async def sell(connection: Queries) -> int:
        return await connection.fetch_val("select sell(:id)", {"id": "Unit-8x8x8"})

    left = await in_transaction(pool, sell)

A query names its values with a colon, and values are never formatted into the SQL; a cast is
`cast(:x as jsonb)`. Inside a transaction's task, the pool's own methods take part in that
transaction. Errors of Postgres and the network become errors of `errors.py`.

The pool sets isolation, search_path and time-outs of each session when it connects. If the URL
leads through a pooler, clients share sessions: then the pool sets them in each transaction, and
runs every statement in a transaction.

All waiting is limited: for a connection, for a lock, for a statement. No kind of work can take all
connections (`shares.py`).
"""

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

import asyncpg
import databases

from stream_server.database import connections, urls
from stream_server.database.errors import DRIVER_ERRORS, translate, translating
from stream_server.database.poolers import is_pooled, pool_url, session_url
from stream_server.database.shares import Shares, Work
from stream_server.database.transactions import LOCK_SECONDS, Row, Transaction, Values
from stream_server.errors import DatabaseUnavailable
from stream_server.settings import Settings

__all__ = ["AnyPool", "Pool", "Share"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[object]]

# Waiting for Postgres does not help against these errors.
PERMANENT_ERRORS: Final = ("28", "3D000")

# No room on the disk, in memory or for connections.
RESOURCE_ERRORS: Final = ("53", "58030")
FULL_SECONDS: Final = 5.0  # Postgres counts as full for this long after the last such error

# Seconds that a statement may take, that it waits for a connection, and that connecting takes.
STATEMENT_SECONDS: Final = 10.0
WAIT_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 10.0
BACKSTOP_SECONDS: Final = 5.0  # the driver gives up this much later than Postgres should


async def _keep_session(_: object) -> None:
    """Skips asyncpg's reset of a returned connection, which would cost a round trip.

    This program leaves nothing in a session after a transaction: settings are local, locks belong
    to the transaction, and the pool does not listen.
    """


class _Connection:
    """A borrowed connection, which `in_transaction` passes to its work."""

    def __init__(self, connection: databases.core.Connection) -> None:
        self._connection = connection
        self._timeout: float | None = None  # seconds; None: the connection's own

    @property
    def raw(self) -> Any:  # asyncpg's own; `databases` does not type it
        return self._connection.raw_connection

    async def fetch_all(self, query: str, values: Values | None = None) -> list[Row]:
        with translating():
            records = await self._connection.fetch_all(query, dict(values or {}))
        return [dict(record._mapping) for record in records]

    async def fetch_one(self, query: str, values: Values | None = None) -> Row | None:
        with translating():
            record = await self._connection.fetch_one(query, dict(values or {}))
        return None if record is None else dict(record._mapping)

    async def fetch_val(self, query: str, values: Values | None = None) -> Any:
        with translating():
            return await self._connection.fetch_val(query, dict(values or {}))

    async def execute(self, query: str, values: Values | None = None) -> None:
        with translating():
            await self._connection.execute(query, dict(values or {}))

    async def run_query(self, query: str, *values: object) -> list[Row]:
        with translating():
            records = await self.raw.fetch(query, *values, timeout=self._timeout)
        return [dict(record) for record in records]

    async def run_script(self, script: str) -> None:
        with translating():
            await self.raw.execute(script, timeout=self._timeout)

    async def copy_rows(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        with translating():
            await self.raw.copy_records_to_table(
                table, schema_name="pg_temp", columns=columns, records=rows
            )

    async def wait_longer(self, *, statement: float, lock: float) -> None:
        limits = {
            "statement_timeout": _milliseconds(statement),
            "lock_timeout": _milliseconds(lock),
        }
        await self.run_script(connections.set_statements(limits, local=True))
        self._timeout = statement + BACKSTOP_SECONDS

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        with translating():
            async with self.raw.transaction():
                yield


class AnyPool:
    """The queries and transactions of a pool, or of a share of it."""

    def _borrowed(self) -> AbstractAsyncContextManager[_Connection]:
        raise NotImplementedError

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
        """Runs `work` in one transaction, once; `in_transaction` repeats it after a conflict."""
        raise NotImplementedError


class Share(AnyPool):
    """A pool's connections for one kind of work."""

    def __init__(self, pool: "Pool", work: Work) -> None:
        self._pool = pool
        self._work = work

    def _borrowed(self) -> AbstractAsyncContextManager[_Connection]:
        return self._pool._borrow(self._work)

    async def run(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._pool._run(work, self._work)


class Pool(AnyPool):
    """A pool of at most `max_size` connections to the database at `url` (see `urls.py`). Times are
    seconds. With `shared`, no kind of work can take all connections (`share_for`); queries of the
    pool itself count as reading.

    `pooled` tells whether the URL leads through a pooler; None: `connect` finds out.
    """

    def __init__(
        self,
        url: str,
        *,
        max_size: int = 10,
        statement: float = STATEMENT_SECONDS,
        lock: float = LOCK_SECONDS,
        wait: float = WAIT_SECONDS,
        shared: bool = False,
        pooled: bool | None = None,
    ) -> None:
        self._address = urls.parse(url)
        self.place = urls.redact(url)
        self._max_size = max_size
        self._wait = wait
        self._pooled = self._address.is_pooled or pooled
        self._shares = Shares(self._max_size, shared=shared)
        self._timeout = statement + BACKSTOP_SECONDS
        self._parameters = {
            **self._address.parameters,
            "search_path": urls.format_names(self._address.schema or "public", "pg_temp"),
            "default_transaction_isolation": "read committed",
            "statement_timeout": _milliseconds(statement),
            "lock_timeout": _milliseconds(lock),
            "idle_in_transaction_session_timeout": _milliseconds(3600),
        }
        self._database: databases.Database | None = None
        self._full_until = float("-inf")  # by the loop's clock

    @classmethod
    def of(cls, settings: Settings, *, max_size: int | None = None, shared: bool = False) -> "Pool":
        """Returns a pool with these settings. `max_size` None: DATABASE_POOL_SIZE. The settings win
        over the URL's `connection_limit` and `pool_timeout`."""
        url = pool_url(settings)
        address, given = urls.parse(url), settings.model_fields_set
        size, wait = settings.database_pool_size, settings.database_wait_seconds
        if address.pool_size is not None and "database_pool_size" not in given:
            size = address.pool_size
        if address.pool_timeout is not None and "database_wait_seconds" not in given:
            wait = address.pool_timeout or math.inf
        return cls(
            url,
            max_size=max_size or size,
            statement=settings.database_statement_seconds,
            lock=settings.database_lock_seconds,
            wait=wait,
            shared=shared,
            pooled=True if session_url(settings) != url else None,
        )

    def share_for(self, work: Work) -> Share:
        """Returns the share of the pool for one kind of work."""
        return Share(self, work)

    @property
    def in_use(self) -> int:
        """The number of connections in use."""
        return self._shares.in_use

    @property
    def waiting(self) -> int:
        """The number of tasks waiting for a connection."""
        return self._shares.waiting

    @property
    def is_connected(self) -> bool:
        """Whether `connect` has succeeded; Postgres may have stopped since."""
        return self._database is not None and self._database.is_connected

    async def connect(
        self,
        *,
        patience: float | None = 0.0,
        sleep: Sleep = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        """Opens the pool. While Postgres does not answer, tries again for `patience` seconds (None:
        for ever), with pauses from 0.1 to 5 s and jitter, and logs each failure.

        Raises DatabaseUnavailable: at once if waiting cannot help, such as for a wrong password or
        an unknown database.
        """
        rng = rng or random.Random()
        delay, waited = 0.1, 0.0
        while True:
            try:
                await self._open()
            except DRIVER_ERRORS as error:
                failure = DatabaseUnavailable(f"{self.place}: {translate(error).message}")
                state = getattr(error, "sqlstate", None) or ""
                hopeless = state.startswith(PERMANENT_ERRORS)
                if hopeless or (patience is not None and waited >= patience):
                    raise failure from error
            else:
                logger.info("Connected to %s", self.place)
                return
            pause = rng.uniform(delay / 2, delay)
            logger.warning("%s; next try in %.1f s", failure.message, pause)
            await sleep(pause)
            waited, delay = waited + pause, min(delay * 2, 5.0)

    async def _open(self) -> None:
        if self._pooled is None:
            self._pooled = await is_pooled(self._address)
            if self._pooled:
                logger.info("%s is a pooler: each statement is a transaction", self.place)
        # `databases` does not get the URL: it would understand few options, and log the URL.
        self._database = databases.Database(
            "postgresql://",
            database=None,
            min_size=1,
            max_size=self._max_size,
            connect=self._connect,
            reset=_keep_session,
        )
        await self._database.connect()

    async def _connect(self, *_: object, **__: object) -> "asyncpg.Connection[Any]":
        """Opens a new connection for asyncpg's pool."""
        address = self._address
        if self._pooled:
            address = replace(address, is_pooled=True, statement_cache_size=0)
        return await connections.connect(
            address,
            application_name="stream-server",
            parameters=self._parameters,
            timeout=CONNECT_SECONDS,
            command_timeout=self._timeout,
        )

    async def disconnect(self) -> None:
        """Closes all connections after those in use are returned."""
        if self._database is not None:
            await self._database.disconnect()

    async def __aenter__(self) -> "Pool":
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.disconnect()

    async def find_trouble(self) -> str | None:
        """Returns why Postgres accepts no changes now; None if it does or gives no reason.

        Raises DatabaseUnavailable.
        """
        if self._full_until > asyncio.get_running_loop().time():
            return "Postgres has run out of resources"
        is_read_only = await self.fetch_val(
            "select pg_is_in_recovery()"
            " or cast(current_setting('transaction_read_only') as boolean)"
        )
        return "Postgres is read-only" if is_read_only else None

    def _borrowed(self) -> AbstractAsyncContextManager[_Connection]:
        return self._borrow(Work.READING)

    async def run(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._run(work, Work.READING)

    async def _run(self, work: Callable[[Transaction], Awaitable[T]], kind: Work) -> T:
        async with self._connection(kind) as borrowed:
            if borrowed.raw.is_in_transaction():
                raise RuntimeError(
                    "transactions do not nest, because a part cannot be repeated alone;"
                    " use `savepoint` within one"
                )
            async with self._transaction(borrowed):
                return await work(borrowed)

    @asynccontextmanager
    async def _borrow(self, kind: Work) -> AsyncIterator[_Connection]:
        """Yields a connection for one statement."""
        async with self._connection(kind) as borrowed:
            if self._pooled and not borrowed.raw.is_in_transaction():
                async with self._transaction(borrowed):
                    yield borrowed
            else:
                yield borrowed

    @asynccontextmanager
    async def _transaction(self, borrowed: _Connection) -> AsyncIterator[None]:
        # asyncpg's transaction, because `databases` never returns a connection whose COMMIT failed.
        raw: asyncpg.Connection[Any] = borrowed.raw
        transaction = raw.transaction(isolation="read_committed")
        with translating():
            await transaction.start()
        try:
            if self._pooled:
                await borrowed.run_script(
                    connections.set_statements(self._transaction_parameters, local=True)
                )
            yield
        except BaseException:
            with suppress(*DRIVER_ERRORS):
                await transaction.rollback()
            raise
        with translating():
            await transaction.commit()

    @property
    def _transaction_parameters(self) -> dict[str, str]:
        """The parameters that a transaction through a pooler sets; BEGIN sets the isolation."""
        return {
            name: value
            for name, value in self._parameters.items()
            if name not in ("default_transaction_isolation", "idle_in_transaction_session_timeout")
        }

    @asynccontextmanager
    async def _connection(self, kind: Work) -> AsyncIterator[_Connection]:
        """Yields this task's connection if it has one already, else a free one."""
        if self._database is None or not self._database.is_connected:
            raise DatabaseUnavailable(f"{self.place}: not connected yet; try again")
        connection = self._database.connection()
        if connection._connection_counter:
            yield _Connection(connection)
            return
        async with self._take_turn(kind):
            with self._noticing_shortage(), translating():
                await connection.__aenter__()
            try:
                with self._noticing_shortage():
                    yield _Connection(connection)
            finally:
                try:
                    await connection.__aexit__()
                except DRIVER_ERRORS:
                    # asyncpg has dropped the dead connection; `databases` would keep using it.
                    self._database._connection = None

    @contextmanager
    def _noticing_shortage(self) -> Iterator[None]:
        """Notes that Postgres has run out of resources, for `find_trouble`."""
        try:
            yield
        except DatabaseUnavailable as error:
            state = getattr(error.__cause__, "sqlstate", None) or ""
            if state.startswith(RESOURCE_ERRORS):
                self._full_until = asyncio.get_running_loop().time() + FULL_SECONDS
            raise

    @asynccontextmanager
    async def _take_turn(self, kind: Work) -> AsyncIterator[None]:
        try:
            await self._shares.take(kind, self._wait)
        except TimeoutError:
            raise DatabaseUnavailable(
                f"All connections to Postgres were busy for {self._wait:g} s; try again"
            ) from None
        try:
            yield
        finally:
            self._shares.give(kind)


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
