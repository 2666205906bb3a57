"""The whole catalogue, 10,000 products, on 200 streams, while 500 of them change every second."""

from __future__ import annotations

import time

from bench.context import Context
from bench.convergence import equal_within
from bench.figures import Figure, at_least, at_most
from bench.load import load
from bench.processes import BenchError
from bench.servers import ours

STREAMS = 200
PRODUCTS = 10_000
RATE = 500


def measure(context: Context) -> list[Figure]:
    seconds = context.pick(15, 8)
    with (
        context.database(PRODUCTS) as database,
        ours(database, context.folder) as server,
        load(context.build, server.port, "/api/inventory/stream", STREAMS, PRODUCTS) as opened,
    ):
        if not equal_within(60, opened, database):
            raise BenchError("The catalogue does not come whole")
        product = f"random(0, {PRODUCTS - 1})"
        with database.writer(product, seconds + 3, clients=4, per_second=RATE) as writer:
            time.sleep(2)
            opened.report()
            cpu, began = server.process.cpu(), time.monotonic()
            time.sleep(seconds)
            cores = (server.process.cpu() - cpu) / (time.monotonic() - began)
            report = opened.report()
            written = writer.result()
        exact = equal_within(5, opened, database)
    return [
        Figure("catalogue: commits", written.per_second, "/s", at_least(0.95 * RATE)),
        Figure("catalogue: updates received", report.updates / seconds, "/s"),
        Figure("catalogue: lag, p50", report.lag_p50, "ms"),
        Figure("catalogue: lag, p99", report.lag_p99, "ms", at_most(500)),
        Figure("catalogue: server", cores, "cores"),
        Figure("catalogue: streams that lost nothing", exact * STREAMS, "", at_least(STREAMS)),
    ]
