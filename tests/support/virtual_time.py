"""An event loop whose time passes only when a test says so.

loop = VirtualLoop()
with loop.entered():
    ...  # as inside a callback: nothing else runs until `step` or `advance`
loop.advance(0.1)
"""

import asyncio
from asyncio import events
from collections.abc import Iterator
from contextlib import contextmanager


class VirtualLoop(asyncio.SelectorEventLoop):
    """Real callbacks, tasks and timers; `time()` stands still between calls of `advance`."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__()

    def time(self) -> float:
        return self.now

    @contextmanager
    def entered(self) -> Iterator[None]:
        """For code that asks for the running loop."""
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(None)

    def step(self, turns: int = 1) -> None:
        """So many turns of the loop; timers that are due fire, none is waited for."""
        for _ in range(turns):
            self.call_soon(self.stop)
            self.run_forever()

    def advance(self, seconds: float, *, resolution: float = 0.01, turns: int = 20) -> None:
        """Lets time pass in small steps, each followed by some turns of the loop."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + resolution)
            self.step(turns)

    def finish(self) -> None:
        """Cancels what still runs, and closes."""
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        self.step(5)
        assert all(task.done() for task in tasks)
        self.close()
