"""The application for any ASGI server: `uvicorn stream_server.asgi:app`, or hypercorn, gunicorn,
granian. Its settings are the environment's.

`stream-server serve` is the better way: there, a stream costs least, and a shutdown is spread over
STREAM_DRAIN_SECONDS. Elsewhere streams are ordinary responses, and some servers wait for these
before they end; so a signal to end them is noticed here, too.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType

from starlette.applications import Starlette

from stream_server.app import create_app
from stream_server.settings import Settings

__all__ = ["app", "make_app"]


def make_app() -> Starlette:
    """A new application. Raises InvalidSettings."""
    made = create_app(Settings.load())
    lifespan = made.router.lifespan_context

    @asynccontextmanager
    async def draining_at_signals(app: Starlette) -> AsyncIterator[None]:
        async with lifespan(app):
            with _draining_at(signal.SIGTERM, made), _draining_at(signal.SIGINT, made):
                yield

    made.router.lifespan_context = draining_at_signals
    return made


@contextmanager
def _draining_at(number: signal.Signals, app: Starlette) -> Iterator[None]:
    """What the server does at this signal it does still, after the streams were told to end."""
    before = signal.getsignal(number)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def drain() -> None:
        if not app.state.is_draining:
            tasks.add(asyncio.ensure_future(app.state.drain()))

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(drain)
        before(number, frame)

    signal.signal(number, handle)
    try:
        yield
    finally:
        if signal.getsignal(number) is handle:
            signal.signal(number, before)


app = make_app()
