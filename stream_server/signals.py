"""The signals that stop a server, heard beside it."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["heard"]


@contextmanager
def heard(hear: Callable[[], object]) -> Iterator[None]:
    """Within the block, Ctrl-C and SIGTERM call `hear` in the running loop as well as what the
    server has them call. Nothing is heard outside the main thread, or where a server has no
    handler in this process."""
    loop = asyncio.get_running_loop()
    before: dict[int, Callable[[int, FrameType | None], object]] = {}  # what the server has

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
