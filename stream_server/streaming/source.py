"""The source: follows the log in Postgres on a connection of its own and feeds a sink, the hub.

The source reads the log by snapshot: each read returns exactly the rows that the snapshot before
did not see (sql/queries/source/read_log.sql). While changes keep coming, the source is *awake*: it
reads often, and writers send no notifications. Then it goes to sleep in two steps. First it takes
the advisory lock that makes writers notify. Now it is *drowsy* and goes on reading until every
transaction that was in progress at that moment has ended: such a transaction may have looked for
the lock before, and would commit without a notification. Then it is *asleep* and waits for
notifications. A few of them do not wake it for good; many within a second do.

Transaction numbers have a meaning within one history only. Each connection and each read ask for
the history (sql/functions/log/stream_lineage.sql, sql/queries/source/read_history.sql). A
promotion, a crash, a restart or a restore begins a new one: commits may be missing, and numbers may
be used a second time. Then the source reads the whole state again, and clients get a reset.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

import asyncpg

from stream_server.database.poolers import connect_for_session
from stream_server.database.queries import query
from stream_server.database.urls import redact
from stream_server.errors import DatabaseUnavailable
from stream_server.metrics import Metrics
from stream_server.streaming.cursor import Snapshot
from stream_server.streaming.products import Change, Product, Variant
from stream_server.streaming.rows import change_of, product_of, variant_of

__all__ = ["CHANNEL", "SLEEP_LOCK", "Sink", "Source"]

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

logger = logging.getLogger(__name__)

CHANNEL: Final = "stock_changes"
SLEEP_LOCK: Final = 495890817899  # announce_changes.sql looks for it

_PAGE: Final = 2_000  # rows of the log read at once
_MAX_BACKLOG: Final = 50_000  # rows; where there are more, the whole state is read again
_WAKE_UPS: Final = 20  # within a second: the source then stays awake
_QUERY_SECONDS: Final = 5.0
_LOAD_SECONDS: Final = 60.0  # for each query that reads all products or variants
_BACKOFF_SECONDS: Final = (0.1, 5.0)
_MAX_PAUSE: Final = 0.2  # seconds between two reads while awake: no change waits longer
_PARAMETERS: Final = {
    # Not the default of the database or the role: under another isolation, two reads in one
    # transaction would see the same.
    "default_transaction_isolation": "read committed",
    # Below deadlock_timeout: a restore that locks one table after another must not be the one that
    # Postgres ends because we hold one and wait for another.
    "lock_timeout": "900ms",
    # The log is read by an index, whatever the planner expects of a snapshot's selectivity.
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    # Writers must stop notifying soon after a source has disappeared.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_LOST: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class Sink(Protocol):
    """Takes the state of the database and its changes: the hub, as far as a source knows it."""

    @property
    def epoch(self) -> str:
        """The history of the state that it has."""

    @property
    def seen(self) -> Snapshot:
        """The snapshot up to which it has all changes."""

    @property
    def is_loaded(self) -> bool:
        """Whether it has a state."""

    @property
    def is_live(self) -> bool:
        """Whether its source follows the database."""

    def load(self, epoch: str, seen: Snapshot, products: Mapping[str, Product]) -> None:
        """Takes a whole state that was read in this snapshot."""

    def apply(self, changes: Iterable[Change], seen: Snapshot | None = None) -> None:
        """Takes rows of the log, in order. `seen` is the snapshot after the last of them."""

    def set_live(self, is_live: bool) -> None:
        """Notes whether the source follows the database."""


class Source:
    """Keeps a sink equal to the database. Times are seconds."""

    def __init__(
        self,
        url: str,
        sink: Sink,
        metrics: Metrics,
        *,
        awake_read: float = 0.01,
        sleep_after: float = 1.0,
        safety_read: float = 5.0,
        rng: random.Random | None = None,
    ) -> None:
        self._url = url
        self._sink = sink
        self._metrics = metrics
        self._awake_read = awake_read
        self._sleep_after = sleep_after
        self._safety_read = safety_read
        self._rng = rng or random.Random()
        self._read_log = query("source/read_log")
        self._read_log_page = query("source/read_log_page")
        self._read_products = query("source/read_products")
        self._read_variants = query("source/read_variants")
        self._read_history = query("source/read_history")
        self._read_foreign = query("source/read_foreign")
        self._lineage = ""  # identifies the server; asked once a connection
        self._floor = 0  # rows of the log up to this id come from a dump, see read_log.sql
        self._wake = asyncio.Event()
        self._is_notified = False
        self._wake_ups: deque[float] = deque(maxlen=_WAKE_UPS)
        self._reads = 0
        self._is_reading = False
        self._has_read = asyncio.Event()  # replaced after each read
        self._queue_asked_at = float("-inf")

    async def run(self) -> None:
        """Follows the database for ever, and reconnects with backoff after each loss."""
        shortest, longest = _BACKOFF_SECONDS
        backoff = shortest
        while True:
            try:
                async with self._connected() as connection:
                    await self._catch_up(connection)
                    self._sink.set_live(True)
                    backoff = shortest
                    await self._follow(connection)
            except Exception as error:  # noqa: BLE001  # it is logged there
                self._tell(error)
            finally:
                self._sink.set_live(False)
                self._metrics.enter("lost")
            await asyncio.sleep(backoff * self._rng.uniform(0.5, 1.0))
            backoff = min(longest, backoff * 2)

    def _tell(self, error: Exception) -> None:
        """Logs and counts why the source lost the database."""
        if self._sink.is_live:
            self._metrics.source_losses.inc()
        where = redact(self._url)
        if isinstance(error, DatabaseUnavailable):
            logger.warning(
                "The source cannot follow Postgres at %s: %s; trying again", where, error.message
            )
        elif isinstance(error, _LOST):
            logger.warning(
                "The source lost Postgres at %s (%s: %s); trying again",
                where, type(error).__name__, error,
            )  # fmt: skip
        else:
            self._metrics.loop_failures.labels("source").inc()
            logger.error("The source failed at Postgres at %s; trying again", where, exc_info=error)

    async def refresh(self, timeout: float = 2.0) -> None:
        """Returns when a read has ended that began after the call, or after `timeout`."""
        wanted = self._reads + (2 if self._is_reading else 1)
        self._wake.set()
        try:
            async with asyncio.timeout(timeout):
                while self._reads < wanted:
                    await self._has_read.wait()
        except TimeoutError:
            return

    # Connecting

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        connection = await connect_for_session(
            self._url,
            application_name="stream-server source",
            parameters=_PARAMETERS,
            timeout=_QUERY_SECONDS,
            command_timeout=_QUERY_SECONDS,
        )
        try:
            connection.add_termination_listener(lambda _: self._wake.set())
            if await connection.fetchval("select pg_is_in_recovery()"):
                raise DatabaseUnavailable("it is a standby, which has no news of its own")
            await connection.add_listener(CHANNEL, self._notified)
            await _refuse_unlogged(connection)
            self._lineage = await connection.fetchval("select stream_lineage()")
            if "?" in self._lineage:
                logger.warning(
                    "Postgres at %s does not tell all of system/timeline/start (%s); should a"
                    " failover go unnoticed, run `stream-server new-epoch`",
                    redact(self._url), self._lineage,
                )  # fmt: skip
            yield connection
        finally:
            # close() would wait for a peer that may be gone.
            connection.terminate()

    def _notified(self, *_: object) -> None:
        self._is_notified = True
        self._wake.set()

    async def _catch_up(self, connection: Connection) -> None:
        """Reads the whole state, or all changes since the last snapshot. LISTEN must come first."""
        if not self._sink.is_loaded:
            await self._load(connection)
        else:
            await self._read(connection)

    async def _load(self, connection: Connection) -> None:
        """Reads every product, and the snapshot in which they are read. The cursor spreads the
        decoding of a hundred thousand rows over many turns of the loop."""
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            row = await connection.fetchrow(self._read_history)
            assert row is not None  # it has no FROM
            if row["history"] is None:
                raise DatabaseUnavailable("stream_epoch has no row")
            await _refuse_unlogged(connection)
            seen = Snapshot.parse(row["seen"])
            floor = await connection.fetchval(self._read_foreign, timeout=_LOAD_SECONDS)
            variants: dict[str, dict[str, Variant]] = defaultdict(dict)
            async for each in connection.cursor(
                self._read_variants, prefetch=_PAGE, timeout=_LOAD_SECONDS
            ):
                variants[each["product_id"]][each["id"]] = variant_of(each)
            products = {}
            async for each in connection.cursor(
                self._read_products, prefetch=_PAGE, timeout=_LOAD_SECONDS
            ):
                products[each["id"]] = product_of(each, variants.get(each["id"]), seen)
        self._floor = floor
        self._sink.load(self._epoch(row["history"]), seen, products)

    def _epoch(self, history: str | None) -> str:
        return _epoch_of(self._lineage, history)

    # Following

    async def _follow(self, connection: Connection) -> None:
        while True:
            await self._stay_awake(connection)
            await connection.execute(f"select pg_advisory_lock_shared({SLEEP_LOCK})")
            if await self._doze(connection):
                await self._sleep(connection)
            await connection.execute(f"select pg_advisory_unlock_shared({SLEEP_LOCK})")

    async def _stay_awake(self, connection: Connection) -> None:
        """Reads until nothing has changed for `sleep_after` seconds."""
        self._metrics.enter("awake")
        loop = asyncio.get_running_loop()
        last_change = loop.time()
        while loop.time() - last_change < self._sleep_after:
            began = loop.time()
            rows = await self._read(connection)
            now = loop.time()
            if rows:
                last_change = now
            await asyncio.sleep(self._pause(rows, now - began))

    def _pause(self, rows: int, seconds: float) -> float:
        """Seconds to wait after a read that found so many rows and took so many seconds."""
        # A read costs the same for one change as for ten. So while changes come, it waits for
        # several of them; after a read that found none, the next change waits half as long.
        between = self._awake_read if rows else self._awake_read / 2
        # Slow reads take at most a fifth of the time.
        return min(_MAX_PAUSE, max(between - seconds, 4 * seconds))

    async def _doze(self, connection: Connection) -> bool:
        """Reads until every transaction has ended that was in progress at the call. False if too
        many notifications came meanwhile."""
        self._metrics.enter("drowsy")
        # A snapshot lists transactions in progress only below the newest one that has ended. This
        # statement is a transaction: once it has ended, all that are in progress now are listed.
        await connection.execute("select pg_current_xact_id()")
        await self._read(connection)
        at_first = self._sink.seen
        pause = self._awake_read
        while not at_first.in_progress.isdisjoint(self._sink.seen.in_progress):
            if await self._woken(pause) and self._is_restless():
                return False
            pause = self._awake_read if await self._read(connection) else min(1.0, pause * 2)
        return True

    async def _sleep(self, connection: Connection) -> None:
        """Reads at each notification, until they come too often."""
        self._metrics.enter("asleep")
        while True:
            is_woken = await self._woken(self._safety_read)
            if is_woken and self._is_restless():
                return
            is_announced, self._is_notified = self._is_notified, False
            rows = await self._read(connection)
            if rows and not is_announced:
                await self._suspect(connection, rows)

    async def _suspect(self, connection: Connection, rows: int) -> None:
        """Counts rows that were found without a notification, unless it is still on its way or
        `notify_mode` is `never`."""
        mode = await connection.fetchval(
            "select value from stream_settings where name = 'notify_mode'"
        )
        if mode != "never" and (not await self._woken(1.0) or not self._is_notified):
            self._metrics.unannounced.inc(rows)
            logger.error("%d rows of the log were not announced", rows)
        self._wake.set()

    async def _woken(self, within: float) -> bool:
        try:
            async with asyncio.timeout(within):
                await self._wake.wait()
        except TimeoutError:
            return False
        finally:
            self._wake.clear()
        return True

    def _is_restless(self) -> bool:
        now = asyncio.get_running_loop().time()
        self._wake_ups.append(now)
        return len(self._wake_ups) == _WAKE_UPS and now - self._wake_ups[0] < 1.0

    # Reading

    async def _read(self, connection: Connection) -> int:
        """Gives the sink all rows that it has not seen, and returns their number."""
        self._is_reading = True
        seen_before = str(self._sink.seen)
        rows = await connection.fetch(self._read_log, seen_before, _PAGE + 1, self._floor)
        seen, epoch = Snapshot.parse(rows[0]["seen"]), self._epoch(rows[0]["history"])
        changes = [change_of(row) for row in rows if row["id"] is not None]
        if epoch != self._sink.epoch or seen.xmax < self._sink.seen.xmax:
            logger.warning("The database has another history than before; reading all products")
            self._sink.set_live(False)  # some changes that it shows may never have happened
            await self._load(connection)
            self._sink.set_live(True)
        elif len(rows) <= _PAGE:
            changes.sort(key=lambda change: change.log_id)
            self._sink.apply(changes, seen)
        elif not await self._read_pages(connection, seen_before, seen):
            await self._load(connection)
        await self._count_read(connection, len(changes))
        return len(changes)

    async def _read_pages(self, connection: Connection, since: str, until: Snapshot) -> bool:
        """Reads a backlog between two snapshots. False if it is so long that reading the whole
        state is cheaper."""
        changes: list[Change] = []
        xid, log_id = 0, 0
        for _ in range(_MAX_BACKLOG // _PAGE):
            rows = await connection.fetch(
                self._read_log_page, since, str(until), str(xid), log_id, _PAGE, self._floor
            )
            changes += map(change_of, rows)
            if len(rows) < _PAGE:
                await self._apply_slowly(changes, until)
                return True
            xid, log_id = rows[-1]["xid"], rows[-1]["id"]
        return False

    async def _apply_slowly(self, changes: list[Change], until: Snapshot) -> None:
        """Applies changes in the order of the log, in many turns of the loop. The order of
        transactions could put a variant before its product."""
        changes.sort(key=lambda change: change.log_id)
        for start in range(0, len(changes), _PAGE):
            self._sink.apply(changes[start : start + _PAGE])
            await asyncio.sleep(0)
        self._sink.apply((), until)

    async def _count_read(self, connection: Connection, rows: int) -> None:
        self._metrics.source_reads.inc()
        self._metrics.source_rows.inc(rows)
        self._reads += 1
        self._is_reading = False
        self._has_read.set()
        self._has_read = asyncio.Event()
        now = asyncio.get_running_loop().time()
        if now - self._queue_asked_at >= self._safety_read:
            self._queue_asked_at = now
            usage = await connection.fetchval("select pg_notification_queue_usage()")
            self._metrics.queue_usage.set(usage)


# Whether changes are logged. It asks system catalogues only, which locks no table.
_IS_LOGGED: Final = """
select count(distinct tgfoid) = 2
  from pg_trigger
 where tgrelid in ('products'::regclass, 'variants'::regclass)
   and tgfoid in ('log_product_changes'::regproc, 'log_variant_changes'::regproc)
   and tgenabled in ('O', 'A')"""


async def _refuse_unlogged(connection: Connection) -> None:
    """Raises DatabaseUnavailable while changes are not logged: a restore copies rows first, table
    by table, and creates triggers last."""
    if not await connection.fetchval(_IS_LOGGED):
        raise DatabaseUnavailable(
            "products or variants have no triggers that log changes, or the triggers are disabled."
            " During a restore this is normal and passes"
        )


@lru_cache(maxsize=1)  # each read asks, and the answer hardly ever changes
def _epoch_of(lineage: str, history: str | None) -> str:
    """The name of the history that clients see, the same in every process on this database."""
    return hashlib.sha256(f"{lineage}/{history}".encode()).hexdigest()[:12]
