"""One product that changes 500 times a second while 10,000 streams show it."""

from __future__ import annotations

import time

from bench.context import Context
from bench.convergence import equal_within
from bench.figures import Figure, at_least, at_most
from bench.load import load
from bench.servers import ours

STREAMS = 10_000
RATE = 500


def measure(context: Context) -> list[Figure]:
    seconds = context.pick(15, 8)
    with (
        context.database(products=1) as database,
        ours(database, context.folder) as server,
        load(context.build, server.port, "/api/inventory/p0/stream", STREAMS, 1) as opened,
    ):
        server.process.settle()
        with database.writer("0", seconds + 3, clients=4, per_second=RATE) as writer:
            time.sleep(2)
            opened.report()
            cpu, began = server.process.cpu(), time.monotonic()
            time.sleep(seconds)
            cores = (server.process.cpu() - cpu) / (time.monotonic() - began)
            report = opened.report()
            written = writer.result()
        exact = equal_within(5, opened, database)
    return [
        Figure("hot product: commits", written.per_second, "/s", at_least(0.95 * RATE)),
        Figure("hot product: age of what a stream shows, p50", report.age_p50, "ms"),
        Figure("hot product: age of what a stream shows, p99", report.age_p99, "ms",
               at_most(1000)),
        Figure("hot product: server", cores, "cores", at_most(1)),
        Figure("hot product: streams with the exact last state", exact * STREAMS, "",
               at_least(STREAMS)),
    ]  # fmt: skip
