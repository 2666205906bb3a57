"""The pool of connections, and the only place that knows the library behind it.

    pool = Pool(url, max_size=10)
    await pool.connect()
    row = await pool.fetch_one("select name from products where id = :id", {"id": "Unit-8x8x8"})

    async def sell(connection: Queries) -> int:
        return await connection.fetch_val("select sell(:id)", {"id": "Unit-8x8x8"})

    left = await in_transaction(pool, sell)

Values are named with a colon and never formatted into the SQL; a cast is `cast(:x as jsonb)`.
Inside a transaction's task, the pool's own methods take part in that transaction. What Postgres or
the network refuses comes out as an error of `errors.py`.

The session is set, not assumed: isolation, search_path and time-outs, once a connection. Where the
URL leads through a pooler, a session belongs to nobody: then all is set in each transaction, and
every statement is in one.

Waiting has bounds: for a connection, for a lock, for a statement. No kind of work can take all
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

# At a start, these won't get better by waiting.
HOPELESS: Final = ("28", "3D000")

# No room: on the disk, in memory, for connections.
FULL: Final = ("53", "58030")
FULL_SECONDS: Final = 5.0  # so long after the last such error, it is taken to be full

# Seconds. What one statement may take, wait for a lock, and wait for a connection.
STATEMENT_SECONDS: Final = 10.0
WAIT_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 10.0
BACKSTOP_SECONDS: Final = (
    5.0  # Postgres ends a statement that takes too long; this much later, we do
)


async def _keep_session(_: object) -> None:
    """What asyncpg does to a connection that comes back, once it has ended its transaction.

    Nothing that this program does outlives a transaction: settings are local, locks are the
    transaction's, the pool does not listen. So the round trip that would reset them is saved.
    """


class _Connection:
    """One connection, borrowed; what `in_transaction` hands to its work."""

    def __init__(self, connection: databases.core.Connection) -> None:
        self._connection = connection
        self._timeout: float | None = None  # seconds; None: as the connection has it

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
    """What can be asked of a pool, and of a share of it."""

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
        """`work` in one transaction, once; `in_transaction` is for when it may be tried again."""
        raise NotImplementedError


class Share(AnyPool):
    """The pool, for one kind of work."""

    def __init__(self, pool: "Pool", work: Work) -> None:
        self._pool = pool
        self._work = work

    def _borrowed(self) -> AbstractAsyncContextManager[_Connection]:
        return self._pool._borrow(self._work)

    async def run(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._pool._run(work, self._work)


class Pool(AnyPool):
    """At most `max_size` connections to the database at `url` (see `urls.py`). Opened by `connect`,
    closed by `disconnect`. Times are seconds. With `shared` no kind of work can take all of them
    (`doing`); what is asked of the pool itself is reading.

    `pooled`: whether the URL leads through a pooler; None: `connect` finds out.
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
        """The pool of the settings; `max_size` None: as large as they say. What is set wins over
        what the URL says (`connection_limit`, `pool_timeout`)."""
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

    def doing(self, work: Work) -> Share:
        """The pool for one kind of work."""
        return Share(self, work)

    @property
    def in_use(self) -> int:
        """Connections that somebody works with just now."""
        return self._shares.in_use

    @property
    def waiting(self) -> int:
        """Pieces of work that wait for a connection just now."""
        return self._shares.waiting

    @property
    def is_connected(self) -> bool:
        """Whether `connect` has succeeded. It does not say that Postgres still answers."""
        return self._database is not None and self._database.is_connected

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
                await self._open()
            except DRIVER_ERRORS as error:
                failure = DatabaseUnavailable(f"{self.place}: {translate(error).message}")
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

    async def _open(self) -> None:
        if self._pooled is None:
            self._pooled = await is_pooled(self._address)
            if self._pooled:
                logger.info("%s is a pooler: each statement is a transaction", self.place)
        # The address goes past `databases`, which would parse few of its options, and log it.
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
        """What asyncpg's pool calls for a new connection."""
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
        """Close all connections, waiting for those in use."""
        if self._database is not None:
            await self._database.disconnect()

    async def __aenter__(self) -> "Pool":
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.disconnect()

    async def trouble(self) -> str | None:
        """Why Postgres takes no changes now, as far as it says so; None if it does.

        Raises DatabaseUnavailable.
        """
        if self._full_until > asyncio.get_running_loop().time():
            return "Postgres is full"
        is_read_only = await self.fetch_val(
            "select pg_is_in_recovery()"
            " or cast(current_setting('transaction_read_only') as boolean)"
        )
        return "Postgres takes no changes: it is read-only" if is_read_only else None

    def _borrowed(self) -> AbstractAsyncContextManager[_Connection]:
        return self._borrow(Work.READING)

    async def run(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._run(work, Work.READING)

    async def _run(self, work: Callable[[Transaction], Awaitable[T]], kind: Work) -> T:
        async with self._connection(kind) as borrowed:
            if borrowed.raw.is_in_transaction():
                raise RuntimeError("transactions don't nest: a part of one cannot be tried again")
            async with self._transaction(borrowed):
                return await work(borrowed)

    @asynccontextmanager
    async def _borrow(self, kind: Work) -> AsyncIterator[_Connection]:
        """For one statement."""
        async with self._connection(kind) as borrowed:
            if self._pooled and not borrowed.raw.is_in_transaction():
                async with self._transaction(borrowed):
                    yield borrowed
            else:
                yield borrowed

    @asynccontextmanager
    async def _transaction(self, borrowed: _Connection) -> AsyncIterator[None]:
        # asyncpg's transaction: `databases` never gives back a connection whose COMMIT failed.
        raw: asyncpg.Connection[Any] = borrowed.raw
        transaction = raw.transaction(isolation="read_committed")
        with translating():
            await transaction.start()
        try:
            if self._pooled:
                await borrowed.run_script(connections.set_statements(self._local, local=True))
            yield
        except BaseException:
            with suppress(*DRIVER_ERRORS):
                await transaction.rollback()
            raise
        with translating():
            await transaction.commit()

    @property
    def _local(self) -> dict[str, str]:
        """What a transaction through a pooler has to set; its isolation is in its BEGIN."""
        return {
            name: value
            for name, value in self._parameters.items()
            if name not in ("default_transaction_isolation", "idle_in_transaction_session_timeout")
        }

    @asynccontextmanager
    async def _connection(self, kind: Work) -> AsyncIterator[_Connection]:
        """The connection of this task, if it has one already; else a free one."""
        if self._database is None or not self._database.is_connected:
            raise DatabaseUnavailable(f"{self.place}: not connected yet")
        connection = self._database.connection()
        if connection._connection_counter:
            yield _Connection(connection)
            return
        async with self._seat(kind):
            with self._noticed(), translating():
                await connection.__aenter__()
            try:
                with self._noticed():
                    yield _Connection(connection)
            finally:
                try:
                    await connection.__aexit__()
                except DRIVER_ERRORS:
                    # It is dead, and asyncpg has thrown it away; `databases` would go on using it.
                    self._database._connection = None

    @contextmanager
    def _noticed(self) -> Iterator[None]:
        """Notes that Postgres is full, for whoever asks about its `trouble`."""
        try:
            yield
        except DatabaseUnavailable as error:
            state = getattr(error.__cause__, "sqlstate", None) or ""
            if state.startswith(FULL):
                self._full_until = asyncio.get_running_loop().time() + FULL_SECONDS
            raise

    @asynccontextmanager
    async def _seat(self, kind: Work) -> AsyncIterator[None]:
        try:
            await self._shares.take(kind, self._wait)
        except TimeoutError:
            raise DatabaseUnavailable(
                f"All connections to Postgres were busy for {self._wait:g} s"
            ) from None
        try:
            yield
        finally:
            self._shares.give(kind)


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
