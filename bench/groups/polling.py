"""Polling: answers of GET /api/inventory/{id} to a second of the server's CPU, that is, on one
core: the client (poll.c) and the server would share them, if there are only two."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from statistics import median
from urllib.request import urlopen

from bench.context import Context
from bench.figures import Figure, at_least
from bench.processes import BenchError, compiled
from bench.servers import Ours, ours

CONNECTIONS = 32
PATH = "/api/inventory/p0"


def measure(context: Context) -> list[Figure]:
    rounds = context.pick(4, 2)
    unchanged, whole = [], []
    with context.database(products=100) as database, ours(database, context.folder) as server:
        with urlopen(f"http://127.0.0.1:{server.port}{PATH}", timeout=10) as answer:
            etag = answer.headers["ETag"]
        for _ in range(rounds):
            unchanged.append(answers_a_second(context, server, 304, etag))
            whole.append(answers_a_second(context, server, 200))
    return [
        Figure("polls answered by 304, a second of one core", median(unchanged), "/s",
               at_least(15_000)),
        Figure("polls answered by 200, a second of one core", median(whole), "/s"),
    ]  # fmt: skip


def answers_a_second(context: Context, server: Ours, status: int, *etag: str) -> float:
    """Of the server's CPU time. Raises BenchError if one has another status."""
    seconds = context.pick(3, 2)
    program = compiled(Path(__file__).parents[1] / "poll.c", context.build)
    server.process.settle()
    cpu = server.process.cpu()
    done = subprocess.run(
        [program, str(server.port), PATH, str(CONNECTIONS), str(seconds), *etag],
        capture_output=True, check=False, timeout=seconds + 10,
    )  # fmt: skip
    cpu = server.process.cpu() - cpu
    if done.returncode:
        raise BenchError(f"The polling client failed: {done.stderr.decode()}")
    counts: dict[str, float] = json.loads(done.stdout)
    right = counts["unchanged"] if status == 304 else counts["answers"] - counts["unchanged"]
    if counts["wrong"] or right != counts["answers"]:
        raise BenchError(f"Not every answer has status {status}: {counts}")
    return counts["answers"] / cpu
