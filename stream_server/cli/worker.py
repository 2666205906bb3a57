"""The worker of a command: its signals, its exit code, its metrics."""

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
    """Works until a signal comes; returns the exit code: 130 after Ctrl-C, else 0.

    Raises InvalidSettings if the port for the metrics cannot be used.
    """
    metrics = Metrics(serves=False)
    signals: list[int] = []

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def request_stop(number: int, _: FrameType | None) -> None:
            signals.append(number)
            loop.call_soon_threadsafe(stop.set)

        with at_signals(request_stop):
            await work_until(stop, settings, metrics)

    with _served(metrics, settings):
        asyncio.run(main())
    return 128 + signal.SIGINT if signals[0] == signal.SIGINT else 0


@contextmanager
def _served(metrics: Metrics, settings: Settings) -> Iterator[None]:
    """Serves `/metrics` on WORKER_METRICS_PORT within the block, unless that is 0."""
    if not settings.worker_metrics_port:
        yield
        return
    try:
        httpd, thread = start_http_server(
            settings.worker_metrics_port, settings.host, metrics.registry
        )
    except OSError as error:
        reason = (
            f"{settings.worker_metrics_port} cannot be used: {error.strerror}. Choose another port"
        )
        raise InvalidSettings({"WORKER_METRICS_PORT": reason}) from error
    try:
        yield
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
