"""A start with 100,000 products: time from the process's start to a ready server, memory."""

from __future__ import annotations

import time
from statistics import median

from bench.context import Context
from bench.database import Database
from bench.figures import Figure, at_most
from bench.servers import ours

PRODUCTS = 100_000


def measure(context: Context) -> list[Figure]:
    starts = context.pick(3, 1)
    with context.database(PRODUCTS) as full, context.database(1) as empty:
        with_products = [start(context, full) for _ in range(starts)]
        without = [start(context, empty) for _ in range(starts)]
    seconds, memory = median(s for s, _ in with_products), median(m for _, m in with_products)
    base = median(m for _, m in without)
    return [
        Figure("start with 100,000 products", seconds, "s", at_most(5)),
        Figure("start with one", median(s for s, _ in without), "s"),
        Figure("memory a product", (memory - base) / PRODUCTS / 1024, "KB", at_most(2)),
        Figure("memory of a server with one product", base / 1024**2, "MB"),
    ]


def start(context: Context, database: Database) -> tuple[float, int]:
    """Seconds to ready, and bytes resident a second later."""
    with ours(database, context.folder) as server:
        time.sleep(1)
        return server.seconds_to_ready, server.process.memory()
