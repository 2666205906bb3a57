"""The worker as a command runs it: its signals, its exit code, its metrics."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from prometheus_client import start_http_server

from stream_server.cli.web import at_signals
from stream_server.errors import InvalidSettings
from stream_server.metrics import Metrics
from stream_server.settings import Settings
from stream_server.worker import work_until

__all__ = ["run"]


def run(settings: Settings) -> int:
    """Work until a signal comes; the exit code for it: 130 after Ctrl-C, else 0.

    Raises InvalidSettings when the port for the metrics cannot be had.
    """
    metrics = Metrics(serves=False)
    signals: list[int] = []

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def stopped(number: int, _: FrameType | None) -> None:
            signals.append(number)
            loop.call_soon_threadsafe(stop.set)

        with at_signals(stopped):
            await work_until(stop, settings, metrics)

    with _served(metrics, settings):
        asyncio.run(main())
    return 128 + signal.SIGINT if signals[0] == signal.SIGINT else 0


@contextmanager
def _served(metrics: Metrics, settings: Settings) -> Iterator[None]:
    """`/metrics` on its own port, if there is one."""
    if not settings.worker_metrics_port:
        yield
        return
    try:
        httpd, thread = start_http_server(
            settings.worker_metrics_port, settings.host, metrics.registry
        )
    except OSError as error:
        reason = f"{settings.worker_metrics_port} cannot be used: {error.strerror}"
        raise InvalidSettings({"WORKER_METRICS_PORT": reason}) from error
    try:
        yield
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
