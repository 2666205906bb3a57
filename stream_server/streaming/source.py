"""The source: follows the log in Postgres on a connection of its own and feeds the hub.

The log is read by snapshot: each read gives exactly the rows that the snapshot before did not
see (sql/queries/source/read_log.sql). While changes pour in, the source is *awake* and reads often;
nobody notifies. Then it goes to sleep in two steps. It takes the advisory lock that makes writers
notify, and, *drowsy*, goes on reading until every transaction that was in progress then has
ended, for one that looked before may still commit unannounced. Only then, *asleep*, does it just
wait. A few wake-ups don't wake it for good; many in a second do.

Transaction numbers mean something within one history only. Each connection and each read ask which
one it is (sql/functions/log/stream_lineage.sql, sql/queries/source/read_history.sql). After a
promotion, a crash, a restart or a restore it is another one: commits may be missing and numbers may
be given out a second time. Then the whole state is read anew, and clients get a reset.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import asyncpg

from stream_server.database.poolers import connect_for_session
from stream_server.database.queries import query
from stream_server.database.urls import redact
from stream_server.errors import DatabaseUnavailable
from stream_server.metrics import Metrics
from stream_server.streaming.cursor import Snapshot
from stream_server.streaming.hub import Hub
from stream_server.streaming.products import Change, Variant
from stream_server.streaming.rows import change_of, product_of, variant_of

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

logger = logging.getLogger(__name__)

CHANNEL = "stock_changes"
SLEEP_LOCK = 495890817899  # announce_changes.sql asks for it

_PAGE = 2_000  # rows of the log read at once
_LONGEST_BACKLOG = 50_000  # rows; past it the state is read anew
_WAKE_UPS = 20  # a second, past which the source stays awake
_QUERY_SECONDS = 5.0
_LOAD_SECONDS = 60.0  # for each query that may read all there is
_BACKOFF_SECONDS = (0.1, 5.0)
_LONGEST_PAUSE = 0.2  # seconds between two reads while awake: no change waits longer
_PARAMETERS = {
    # Whatever the database or the role says: two reads in one transaction would see the same.
    "default_transaction_isolation": "read committed",
    # Below deadlock_timeout: a restore that locks one table after another must not be the one that
    # Postgres ends because we hold one and wait for another.
    "lock_timeout": "900ms",
    # The log is read by index whatever the planner guesses of a snapshot's selectivity.
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    # A source that died without a word must not keep writers notifying.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class Source:
    """Keeps a hub equal to the database. Times are seconds."""

    def __init__(
        self,
        url: str,
        hub: Hub,
        metrics: Metrics,
        *,
        awake_read: float = 0.01,
        sleep_after: float = 1.0,
        safety_read: float = 5.0,
        rng: random.Random | None = None,
    ) -> None:
        self._url = url
        self._hub = hub
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
        self._lineage = ""  # which server it is, for as long as the connection lives
        self._floor = 0  # rows of the log with an id up to this are no news, see read_log.sql
        self._wake = asyncio.Event()
        self._is_notified = False
        self._wake_ups: deque[float] = deque(maxlen=_WAKE_UPS)
        self._reads = 0
        self._is_reading = False
        self._has_read = asyncio.Event()  # another one for each read
        self._queue_asked_at = float("-inf")

    async def run(self) -> None:
        """Follows the database for ever; comes back after each loss, with backoff."""
        shortest, longest = _BACKOFF_SECONDS
        backoff = shortest
        while True:
            try:
                async with self._connected() as connection:
                    await self._catch_up(connection)
                    self._hub.set_live(True)
                    backoff = shortest
                    await self._follow(connection)
            except Exception as error:  # noqa: BLE001  # it is logged there
                self._tell(error)
            finally:
                self._hub.set_live(False)
                self._metrics.set_source_state("lost")
            await asyncio.sleep(backoff * self._rng.uniform(0.5, 1.0))
            backoff = min(longest, backoff * 2)

    def _tell(self, error: Exception) -> None:
        """Whatever it is that Postgres does or answers, the source comes back."""
        if self._hub.is_live:
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
        """Returns after a read that began after the call, or after the time."""
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
            # close() would wait for a peer that is perhaps not there any more.
            connection.terminate()

    def _notified(self, *_: object) -> None:
        self._is_notified = True
        self._wake.set()

    async def _catch_up(self, connection: Connection) -> None:
        """After LISTEN, never before: the whole state, or all since the cursor."""
        if not self._hub.is_loaded:
            await self._load(connection)
        else:
            await self._read(connection)

    async def _load(self, connection: Connection) -> None:
        """Reads every product and the snapshot that they belong to. The encoding of a hundred
        thousand rows is spread over many turns of the loop."""
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
        self._hub.load(self._epoch(row["history"]), seen, products)

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
        """Reads until nothing has changed for a while."""
        self._metrics.set_source_state("awake")
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
        """Seconds from a read, which took so many and found so many rows, to the next one."""
        # While changes come, a read waits for several of them: it costs the same for one as for
        # ten. After none has come, the next one is not kept waiting so long.
        between = self._awake_read if rows else self._awake_read / 2
        # Expensive reads take a fifth of the time at most.
        return min(_LONGEST_PAUSE, max(between - seconds, 4 * seconds))

    async def _doze(self, connection: Connection) -> bool:
        """Reads until every transaction has ended that was in progress when it lay down; False
        if there were too many wake-ups to sleep at all."""
        self._metrics.set_source_state("drowsy")
        # A snapshot lists those in progress below the newest one that has ended. Once this one
        # has, all that are in progress now are listed.
        await connection.execute("select pg_current_xact_id()")
        await self._read(connection)
        lay_down = self._hub.seen
        pause = self._awake_read
        while not lay_down.in_progress.isdisjoint(self._hub.seen.in_progress):
            if await self._woken(pause) and self._is_restless():
                return False
            pause = self._awake_read if await self._read(connection) else min(1.0, pause * 2)
        return True

    async def _sleep(self, connection: Connection) -> None:
        """Reads when it is notified, until that happens too often."""
        self._metrics.set_source_state("asleep")
        while True:
            is_woken = await self._woken(self._safety_read)
            if is_woken and self._is_restless():
                return
            is_announced, self._is_notified = self._is_notified, False
            rows = await self._read(connection)
            if rows and not is_announced:
                await self._suspect(connection, rows)

    async def _suspect(self, connection: Connection, rows: int) -> None:
        """Counts rows that were found before their notification, unless it is on its way, or nobody
        notifies at all."""
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
        """Gives the hub all rows that it has not seen; returns their number."""
        self._is_reading = True
        seen_before = str(self._hub.seen)
        rows = await connection.fetch(self._read_log, seen_before, _PAGE + 1, self._floor)
        seen, epoch = Snapshot.parse(rows[0]["seen"]), self._epoch(rows[0]["history"])
        changes = [change_of(row) for row in rows if row["id"] is not None]
        if epoch != self._hub.epoch or seen.xmax < self._hub.seen.xmax:
            logger.warning("The database has another history than before; reading it anew")
            self._hub.set_live(False)  # what it shows may never have happened
            await self._load(connection)
            self._hub.set_live(True)
        elif len(rows) <= _PAGE:
            changes.sort(key=lambda change: change.log_id)
            self._hub.apply(changes, seen)
        elif not await self._read_pages(connection, seen_before, seen):
            await self._load(connection)
        await self._count_read(connection, len(changes))
        return len(changes)

    async def _read_pages(self, connection: Connection, since: str, until: Snapshot) -> bool:
        """Reads a backlog between two snapshots; False if it is too long to be worth it."""
        changes: list[Change] = []
        xid, log_id = 0, 0
        for _ in range(_LONGEST_BACKLOG // _PAGE):
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
        """In the order of the log: that of transactions may put a variant before its product."""
        changes.sort(key=lambda change: change.log_id)
        for start in range(0, len(changes), _PAGE):
            self._hub.apply(changes[start : start + _PAGE])
            await asyncio.sleep(0)
        self._hub.apply((), until)

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


# Whether changes are logged. Asks the catalogue only, which locks no table.
_IS_LOGGED = """
select count(distinct tgfoid) = 2
  from pg_trigger
 where tgrelid in ('products'::regclass, 'variants'::regclass)
   and tgfoid in ('log_product_changes'::regproc, 'log_variant_changes'::regproc)
   and tgenabled in ('O', 'A')"""


async def _refuse_unlogged(connection: Connection) -> None:
    """Raises DatabaseUnavailable while changes would pass us by: a restore brings rows first, table
    by table, and makes triggers last."""
    if not await connection.fetchval(_IS_LOGGED):
        raise DatabaseUnavailable(
            "products or variants have no triggers that log changes, or these are disabled."
            " While a backup is put back, this passes"
        )


@lru_cache(maxsize=1)  # each read asks, and hardly ever is it another one
def _epoch_of(lineage: str, history: str | None) -> str:
    """The history as clients see it, the same in every process on this database."""
    return hashlib.sha256(f"{lineage}/{history}".encode()).hexdigest()[:12]
