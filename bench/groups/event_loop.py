"""How long the event loop is held: what a poll or a new stream waits at worst, before its turn."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from bench.context import Context
from bench.figures import Figure, at_most
from bench.load import load
from bench.processes import BenchError, raise_descriptors
from bench.servers import Ours, ours

STREAMS = 10_000
LOADS = 2  # of the load clients that hold the streams which are pinged
SPARE = 200  # descriptors that are not for streams, beside the twentieth that the server spares
PING_SECONDS = 2.0  # pings are sent in as many slices, however often they are
PATH = "/api/inventory/p0/stream"
OBSERVED = ("-m", "bench.observed_server")


@dataclass(frozen=True, slots=True)
class Hold:
    """The longest hold of the loop, in milliseconds: by the clock, and of CPU time."""

    wall: float
    cpu: float


def measure(context: Context) -> list[Figure]:
    return [*fan_outs(context), *pings(context)]


def fan_outs(context: Context) -> list[Figure]:
    with ExitStack() as stack:
        database = stack.enter_context(context.database(products=100))
        quiet = {"STREAM_PING_SECONDS": "25"}
        server = stack.enter_context(ours(database, context.folder, quiet, OBSERVED))
        opened = stack.enter_context(load(context.build, server.port, PATH, STREAMS))
        server.process.settle()
        opened.report()
        holds = []
        for _ in range(context.pick(40, 15)):
            longest_hold(server)
            database.sell()
            opened.wait(STREAMS, 10)
            holds.append(longest_hold(server))
            time.sleep(0.1)
    return figures("in a fan-out to 10,000 streams", holds, 20)


def pings(context: Context) -> list[Figure]:
    streams = min(10_000, (raise_descriptors() * 19 // 20 - SPARE) // LOADS)
    with ExitStack() as stack:
        database = stack.enter_context(context.database(products=100))
        often = {"STREAM_PING_SECONDS": str(PING_SECONDS)}
        server = stack.enter_context(ours(database, context.folder, often, OBSERVED))
        server.process.settle()
        idle = holds_of_rounds(server, context.pick(4, 2))
        for _ in range(LOADS):
            stack.enter_context(load(context.build, server.port, PATH, streams))
        time.sleep(PING_SECONDS)
        holds = holds_of_rounds(server, context.pick(6, 2))
    # What the machine itself adds by the clock: the scheduler, and whoever else is at work.
    without = Figure(
        "longest hold with no streams, clock, median", median(hold.wall for hold in idle), "ms"
    )
    return [*figures(f"in pings to {LOADS * streams:,} streams", holds, 10), without]


def holds_of_rounds(server: Ours, rounds: int) -> list[Hold]:
    """The longest hold of each round of pings."""
    holds = []
    longest_hold(server)
    for _ in range(rounds):
        time.sleep(PING_SECONDS)
        holds.append(longest_hold(server))
    return holds


def figures(name: str, holds: list[Hold], bar: float) -> list[Figure]:
    """Others on the machine lengthen a hold by the clock, so the bar is for its median there."""
    cpu, wall = [hold.cpu for hold in holds], [hold.wall for hold in holds]
    return [
        Figure(f"longest hold {name}, CPU", max(cpu), "ms", at_most(bar)),
        Figure(f"longest hold {name}, clock, median", median(wall), "ms", at_most(bar)),
        Figure(f"longest hold {name}, clock, worst", max(wall), "ms"),
    ]


def longest_hold(server: Ours) -> Hold:
    """The longest since the last call."""
    log = server.process.log
    before = len(reports(log.read_text()))
    os.kill(server.process.pid, signal.SIGUSR1)
    deadline = time.monotonic() + 5
    while len(lines := reports(log.read_text())) == before:
        if time.monotonic() > deadline:
            raise BenchError("The event loop does not answer")
        time.sleep(0.005)
    return Hold(**json.loads(lines[-1]))


def reports(log: str) -> list[str]:
    return [line for line in log.splitlines() if line.startswith("{") and line.endswith("}")]
