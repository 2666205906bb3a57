"""The signals that stop a server, received in addition to the server's own handlers."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["heard"]


@contextmanager
def heard(hear: Callable[[], object]) -> Iterator[None]:
    """Calls `hear` in the running loop at Ctrl-C and SIGTERM within the block, besides the server's
    own handlers. It does nothing outside the main thread, or if the server has no handlers in this
    process."""
    loop = asyncio.get_running_loop()
    before: dict[int, Callable[[int, FrameType | None], object]] = {}  # the server's handlers

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(hear)
        before[number](number, frame)

    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(each)
            if callable(handler):
                before[each] = handler
                signal.signal(each, handle)
    try:
        yield
    finally:
        for number, previous in before.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, previous)
