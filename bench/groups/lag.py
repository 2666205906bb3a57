"""From a change in Postgres to its arrival, at 200 commits a second spread over 1,000 products.

The time begins when the trigger stamps the row, before the commit, and so includes the commit.
"""

from __future__ import annotations

import time

from bench.context import Context
from bench.figures import Figure, at_most
from bench.load import load
from bench.servers import ours

PRODUCTS = 1_000
RATE = 200
OBSERVED = {
    "100 streams of the catalogue": ("/api/inventory/stream", 100),
    "1,000 streams of a product each": ("/api/inventory/p*/stream", PRODUCTS),
}


def measure(context: Context) -> list[Figure]:
    figures = []
    with context.database(PRODUCTS) as database, ours(database, context.folder) as server:
        for name, (path, streams) in OBSERVED.items():
            with load(context.build, server.port, path, streams, PRODUCTS) as opened:
                seconds = context.pick(12, 6)
                product = f"random(0, {PRODUCTS - 1})"
                with database.writer(product, seconds + 3, clients=2, per_second=RATE) as writer:
                    time.sleep(2)
                    opened.report()
                    time.sleep(seconds)
                    report = opened.report()
                    writer.result()
            figures += [
                Figure(f"lag, {name}, p50", report.lag_p50, "ms", at_most(10)),
                Figure(f"lag, {name}, p99", report.lag_p99, "ms", at_most(50)),
            ]
    return figures
