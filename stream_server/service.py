"""The parts of an application that run beside its requests, and their start and end."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Final

from starlette.applications import Starlette
from starlette.datastructures import State

from stream_server.background import running, until_cancelled
from stream_server.database import migrations
from stream_server.database.pool import Pool
from stream_server.database.poolers import session_url
from stream_server.database.shares import Work
from stream_server.errors import DatabaseError
from stream_server.inventory.counts import read_lags
from stream_server.inventory.reserver import Reserver
from stream_server.metrics import Metrics
from stream_server.settings import Settings
from stream_server.signals import heard
from stream_server.streaming.hub import Hub
from stream_server.streaming.publisher import Publisher
from stream_server.streaming.source import Source
from stream_server.web.api.imports import ImportTasks
from stream_server.web.product_json import PublicEncoder

__all__ = ["NOT_STARTED", "Service"]

logger = logging.getLogger(__name__)

NOT_STARTED: Final = (
    "the lifespan of this application was not run; if it is mounted in another application, use "
    "stream_server.app.started() in that application's lifespan"
)
LAG_SECONDS: Final = 15.0  # between two measurements of external systems' lag
CLOSING_SECONDS: Final = 5.0  # to wait for connections to Postgres that are still in use


class Service:
    """The pool, the source, the hub and its publisher, and the loops that keep them running."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._url = session_url(settings)
        self._hub = Hub(
            PublicEncoder(),
            conflate=settings.stream_conflate_ms / 1000,
            retry_ms=settings.stream_retry_ms,
            on_failure=metrics.failed.labels("stream").inc,
        )
        self._publisher = Publisher(
            self._hub,
            metrics,
            ping=settings.stream_ping_seconds,
            stall=settings.stream_stall_seconds,
            max_life=settings.stream_max_seconds,
        )
        self._source = Source(
            self._url,
            self._hub,
            metrics,
            awake_read=settings.stream_awake_read_ms / 1000,
            sleep_after=settings.stream_sleep_after_ms / 1000,
            safety_read=settings.stream_safety_read_seconds,
        )
        self._pool = Pool.of(settings, shared=True)
        metrics.pool_in_use.set_function(lambda: self._pool.in_use)
        metrics.pool_waiting.set_function(lambda: self._pool.waiting)
        self._imports = ImportTasks()
        self._state = State()
        self._draining: set[asyncio.Task[None]] = set()

    def attach(self, state: State) -> None:
        """Puts into the application's state what its routes and its server use."""
        settings = self._settings
        self._state = state
        state.hub = self._hub
        state.source = self._source
        state.pool = self._pool
        state.reserver = Reserver(
            self._pool.share_for(Work.CHANGING),
            timedelta(minutes=settings.reservation_minutes),
            turns=max(1, settings.database_pool_size * 3 // 10),
            patience=settings.database_wait_seconds,
        )
        state.imports = self._imports
        state.has_started = False
        state.has_complained = False  # whether the log says that it was not started
        state.waits_because = NOT_STARTED
        state.is_leaving = False
        state.is_draining = False
        state.is_hurried = False  # a second signal came: end without waiting
        state.hears_signals = True  # False where the server calls `drain` itself
        state.drain = self.drain

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Runs the loops within the block; at its end, ends streams and closes the pool."""
        state, settings = self._state, self._settings
        state.has_started = True
        if settings.jwt_public_key and not settings.jwt_audience:
            logger.warning(
                "JWT_PUBLIC_KEY is set, but JWT_AUDIENCE is not: tokens that this issuer signs for "
                "other applications are accepted, too. Set JWT_AUDIENCE"
            )
        state.is_leaving = state.is_draining = False  # an application may run again
        state.waits_because = ""
        loops = {
            "source": self._follow,
            "publisher": self._publisher.publish,
            "ping": self._publisher.ping,
            "pool": self._connect,
            "sync lag": self._watch_lag,
        }
        try:
            async with running(loops, self._metrics):
                # Most servers wait for streams, which never end by themselves, without telling us.
                with heard(self._begin_drain) if state.hears_signals else nullcontext():
                    yield
                if not state.is_draining:  # the server has not called `drain`
                    await self.drain()
        finally:
            state.has_started = False
            with suppress(TimeoutError):
                async with asyncio.timeout(0 if state.is_hurried else CLOSING_SECONDS):
                    await self._imports.stop()
                    await self._pool.disconnect()

    async def drain(self) -> None:
        """Ends all streams, and tells clients when to come back."""
        settings = self._settings
        self._state.is_draining = True
        await self._publisher.end_streams(settings.stream_drain_seconds)

    def _begin_drain(self) -> None:
        if not self._state.is_draining:
            self._draining.add(asyncio.create_task(self.drain()))

    async def _follow(self) -> None:
        await migrations.wait_until_current(self._url, tell=self._wait)
        self._wait("")
        await self._source.run()

    def _wait(self, reason: str) -> None:
        self._state.waits_because = reason

    async def _connect(self) -> None:
        await self._pool.connect(patience=None)
        await until_cancelled()

    async def _watch_lag(self) -> None:
        while True:
            if self._hub.is_live:
                with suppress(DatabaseError):  # those who need the database report it
                    self._metrics.set_sync_lags(await read_lags(self._pool))
            await asyncio.sleep(LAG_SECONDS)
