"""Our server, as `stream-server serve` runs it, with a look at how long its event loop is held.

A timer of 1 ms runs beside it. Whenever it comes late, something else held the loop. At SIGUSR1 the
longest hold since the last one is written to standard output, as a line of JSON: by the clock, and
by the CPU time that the process used meanwhile, which other programs on the machine don't add to.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time

from stream_server.app import create_app
from stream_server.cli.web import listen, run
from stream_server.settings import Settings

TICK = 0.001  # seconds


class Watch:
    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu = 0.0

    def report(self) -> None:
        wall, cpu = self.wall * 1000, self.cpu * 1000
        self.wall = self.cpu = 0.0
        sys.stdout.write(json.dumps({"wall": wall, "cpu": cpu}) + "\n")
        sys.stdout.flush()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.report)
        wall, cpu = time.monotonic(), time.process_time()
        while True:
            await asyncio.sleep(TICK)
            wall_now, cpu_now = time.monotonic(), time.process_time()
            self.wall = max(self.wall, wall_now - wall - TICK)
            self.cpu = max(self.cpu, cpu_now - cpu)
            wall, cpu = wall_now, cpu_now


if __name__ == "__main__":
    settings = Settings.load()
    sys.exit(run(create_app(settings), settings, listen(settings.host, settings.port), Watch().run))
