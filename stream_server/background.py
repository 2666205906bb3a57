"""Background loops: each runs beside the requests and belongs to the code that started it."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from stream_server.metrics import Metrics

__all__ = ["running", "until_cancelled"]

logger = logging.getLogger(__name__)

_BACKOFF_SECONDS: Final = (0.1, 10.0)


@asynccontextmanager
async def running(
    loops: Mapping[str, Callable[[], Awaitable[None]]], metrics: Metrics
) -> AsyncIterator[None]:
    """Runs loops by name within the block; cancels and awaits them at its end.

    A loop that raises or returns is logged, counted and started again after a growing pause.
    """
    tasks = [
        asyncio.create_task(_keep_running(name, loop, metrics), name=name)
        for name, loop in loops.items()
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_cancelled() -> None:
    """Waits for ever: the end of a loop whose work goes on by itself."""
    await asyncio.Event().wait()


async def _keep_running(name: str, loop: Callable[[], Awaitable[None]], metrics: Metrics) -> None:
    min_pause, max_pause = _BACKOFF_SECONDS
    backoff = min_pause
    now = asyncio.get_running_loop().time
    while True:
        began = now()
        try:
            await loop()
            logger.error("The loop %r ended; starting it again", name)
        except Exception:
            logger.exception("The loop %r failed; starting it again", name)
        metrics.loop_failures.labels(name).inc()
        backoff = min_pause if now() - began > max_pause else min(max_pause, backoff * 2)
        await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
