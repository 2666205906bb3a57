"""The periodic work beside the requests. Several workers may run: no work is done twice.

    sweep   every 2 s    ends overdue reservations (SKIP LOCKED: workers share them)
    lag     every 15 s   measures the age of each external system's counts; alerts above its limit
    tidy    every 60 s   marks imports as failed whose process has died
    missed  every 5 min  numbers and logs changes that bypassed the triggers
    prune   every hour   deletes old responses to repeated requests, events of payment providers,
                         closed alerts, and reservations that ended without an order; also rows of
                         the log and orders, if LOG_KEEP_DAYS and ORDER_KEEP_DAYS are set

The worker ends reservations, and deletes reservations, orders and the log, in batches (SKIP
LOCKED). Other work is done by the worker that gets the loop's advisory lock, in one transaction: if
that worker is killed, Postgres releases the lock and undoes the work.
All work is due at a time, not at an event, so no loop waits for a notification.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from typing import Final

from stream_server.background import running, until_cancelled
from stream_server.database import migrations
from stream_server.database.pool import Pool
from stream_server.database.poolers import session_url
from stream_server.database.transactions import (
    LOCK_SECONDS,
    Queries,
    Transaction,
    in_transaction,
    retry,
)
from stream_server.errors import StreamServerError
from stream_server.inventory import counts, orders, reservations
from stream_server.inventory.imports import record
from stream_server.metrics import Metrics
from stream_server.settings import Settings

__all__ = ["Duty", "Worker", "work_until"]

logger = logging.getLogger(__name__)

LOCK: Final = int.from_bytes(b"work")  # the first of two keys of an advisory lock
SWEEP_BATCH: Final = 100
PRUNE_BATCH: Final = 10_000
MISSED_BATCH: Final = 1_000
ORDERS_BATCH: Final = 1_000
KEEP_REPLAYS: Final = timedelta(days=30)
KEEP_RESERVATIONS: Final = timedelta(days=30)
KEEP_ALERTS: Final = timedelta(days=90)


class Duty(IntEnum):
    """The work of one worker at a time: the second key of its advisory lock."""

    LAG = 1
    PRUNE = 2
    PRUNE_LOG = 3
    MISSED_CHANGES = 4


@dataclass(slots=True)
class Worker:
    """The worker's loops, on a pool that the caller owns."""

    pool: Pool
    metrics: Metrics
    lag_limit: timedelta
    keep_log: timedelta | None = None  # None: keep for ever
    keep_orders: timedelta | None = None
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    rng: random.Random = field(default_factory=random.Random)

    @property
    def loops(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The loops by name, for `background.running`."""
        return {
            "sweep": lambda: self._every(2, self.sweep),
            "lag": lambda: self._every(15, self.check_lag),
            "tidy": lambda: self._every(60, self.tidy),
            "missed": lambda: self._every(300, self.log_missed_changes),
            "prune": lambda: self._every(3600, self.prune),
        }

    async def sweep(self) -> int:
        """Ends all overdue reservations that no other worker has locked; returns their number."""
        total = 0
        while ended := await retry(self._expire):
            self.metrics.expired_reservations.inc(ended)
            total += ended
        return total

    async def _expire(self) -> int:
        return await reservations.expire(self.pool, max_count=SWEEP_BATCH)

    async def check_lag(self) -> None:
        """Measures the lag of each source, and opens and closes its alert, unless another worker is
        doing that."""

        async def work(connection: Queries) -> None:
            await counts.check_lag(connection, self.lag_limit)

        await self._alone(Duty.LAG, work)
        self.metrics.set_sync_lags(await counts.read_lags(self.pool))

    async def tidy(self) -> None:
        """Marks imports as failed whose process has died."""
        closed = await record.close_abandoned(self.pool)
        if closed:
            logger.warning("Marked %d imports as failed: their process has died", closed)

    async def log_missed_changes(self) -> None:
        """Logs changes that bypassed the triggers, so that streams send them.

        Compares every product and variant with the log.
        """
        logged = MISSED_BATCH

        async def work(connection: Transaction) -> None:
            nonlocal logged
            await connection.wait_longer(statement=600, lock=LOCK_SECONDS)
            [row] = await connection.run_query(
                "select log_missed_changes($1) as logged", MISSED_BATCH
            )
            logged = row["logged"]
            self.metrics.missed_changes.inc(logged)
            if logged:
                logger.warning("Logged %d changes that had bypassed the triggers", logged)

        while logged == MISSED_BATCH:
            logged = 0
            await self._alone(Duty.MISSED_CHANGES, work)

    async def prune(self) -> None:
        """Deletes rows that are older than their retention time."""

        async def work(connection: Queries) -> None:
            await connection.execute(
                "select prune_replays(:older_than)", {"older_than": KEEP_REPLAYS}
            )
            await connection.execute(
                "delete from stock_alerts where closed_at < now() - cast(:age as interval)",
                {"age": KEEP_ALERTS},
            )

        await self._alone(Duty.PRUNE, work)
        while await retry(self._prune_reservations) == PRUNE_BATCH:
            pass
        while await retry(self._prune_orders) == ORDERS_BATCH:
            pass
        while await self._prune_log() == PRUNE_BATCH:
            pass

    async def _prune_reservations(self) -> int:
        return await reservations.prune(
            self.pool, older_than=KEEP_RESERVATIONS, max_count=PRUNE_BATCH
        )

    async def _prune_orders(self) -> int:
        if self.keep_orders is None:
            return 0
        return await orders.prune(self.pool, older_than=self.keep_orders, max_count=ORDERS_BATCH)

    async def _prune_log(self) -> int:
        """Deletes one batch and returns its size; 0 if another worker is pruning, because this one
        would only wait for the other's rows."""
        if self.keep_log is None:
            return 0
        pruned = 0

        async def work(connection: Queries) -> None:
            nonlocal pruned
            pruned = await connection.fetch_val(
                "select prune_inventory_log(:older_than, :max_count)",
                {"older_than": self.keep_log, "max_count": PRUNE_BATCH},
            )

        await self._alone(Duty.PRUNE_LOG, work)
        return pruned

    async def _alone(self, duty: Duty, work: Callable[[Transaction], Awaitable[None]]) -> None:
        """Runs `work` in a transaction, unless another worker is doing the same duty."""

        async def locked(connection: Transaction) -> None:
            if await connection.fetch_val(
                "select pg_try_advisory_xact_lock(:lock, :duty)", {"lock": LOCK, "duty": duty}
            ):
                await work(connection)

        await in_transaction(self.pool, locked)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        """Repeats `work` with jitter, so that workers that start together drift apart. An error of
        the service is logged and the next round tries again; any other error ends the loop."""
        while True:
            try:
                await work()
            except StreamServerError as error:
                logger.warning("%s: %s", getattr(work, "__name__", "work"), error.message)
            await self.sleep(seconds * self.rng.uniform(0.9, 1.0))


async def work_until(stop: asyncio.Event, settings: Settings, metrics: Metrics) -> None:
    """Runs a worker on the database of the settings until `stop` is set. Waits for the database and
    its schema without a limit."""
    url = session_url(settings)

    async def work() -> None:
        await migrations.wait_until_current(url)
        async with Pool.of(settings, max_size=4) as pool:
            worker = Worker(
                pool,
                metrics,
                timedelta(minutes=settings.sync_lag_minutes),
                keep_log=_age(settings.log_keep_days),
                keep_orders=_age(settings.order_keep_days),
            )
            if not metrics.serves:  # else the metrics are those of the server's pool
                metrics.pool_in_use.set_function(lambda: pool.in_use)
                metrics.pool_waiting.set_function(lambda: pool.waiting)
            logger.info("Working on %s", pool.place)
            async with running(worker.loops, metrics):
                await until_cancelled()

    async with running({"worker": work}, metrics):
        await stop.wait()


def _age(days: int) -> timedelta | None:
    return timedelta(days=days) if days else None
