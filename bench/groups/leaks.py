"""50,000 streams opened and closed, half of them by reset: what is left of them."""

from __future__ import annotations

import time

from bench.context import Context
from bench.figures import Figure, at_most
from bench.load import load
from bench.processes import BenchError
from bench.servers import Ours, ours

AT_ONCE = 5_000
PATH = "/api/inventory/p0/stream"


def measure(context: Context) -> list[Figure]:
    bursts = context.pick(10, 3)
    with context.database(products=100) as database, ours(database, context.folder) as server:
        # What a first burst needs is kept for the next one.
        before = memory_after(context, server, bursts=1)
        after = memory_after(context, server, bursts)
        left = server.wait_until_empty()
    number = bursts * AT_ONCE
    return [
        Figure(f"memory more after {number:,} streams than after {AT_ONCE:,}",
               (after - before) / 1024**2, "MB", at_most(4)),
        Figure(f"streams still counted as open after {number:,}", left, "", at_most(0)),
    ]  # fmt: skip


def memory_after(context: Context, server: Ours, bursts: int) -> int:
    """Bytes resident once the streams of so many bursts are closed."""
    with load(context.build, server.port, PATH, AT_ONCE) as opened:
        if (counted := server.open_streams()) != AT_ONCE:
            raise BenchError(f"The server counts {counted:,} of {AT_ONCE:,} streams")
        for _ in range(bursts - 1):
            opened.churn(AT_ONCE)
            time.sleep(0.1)
    server.wait_until_empty()
    server.process.settle()
    return server.process.memory()
