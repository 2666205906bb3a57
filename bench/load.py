"""The load client: many streams in one small process (load.c)."""

from __future__ import annotations

import json
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import BenchError, compiled, environment_with, stop


@dataclass(frozen=True, slots=True)
class Report:
    """What came since the last report; `bytes` without those of pings; lag and age in
    milliseconds."""

    updates: int
    bytes: int
    pings: int
    open: int
    lag_p50: int
    lag_p99: int
    lag_max: int
    age_p50: int
    age_p99: int


class Load:
    """Open streams. `seconds` is how long it took to open them."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        opened = self._answer(90)
        self.streams = int(opened["streams"])
        self.seconds = opened["seconds"]

    def report(self) -> Report:
        return self._report("report", 10)

    def wait(self, updates: int, seconds: float) -> Report:
        """A report as soon as there are so many updates in it, or after the time."""
        return self._report(f"wait {updates} {seconds}", seconds + 10)

    def state(self) -> tuple[int, int]:
        """The sum over all products of the newest version that a stream got: of the stream with
        the smallest, and of the one with the largest."""
        answer = self._ask("state", 10)
        return int(answer["lowest"]), int(answer["highest"])

    def churn(self, streams: int) -> float:
        """Closes and opens so many, half of them by reset. Seconds that the opening took."""
        return self._ask(f"churn {streams}", 90)["seconds"]

    def _report(self, command: str, within: float) -> Report:
        return Report(**{name: int(value) for name, value in self._ask(command, within).items()})

    def _ask(self, command: str, within: float) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        self._process.stdin.flush()
        return self._answer(within)

    def _answer(self, within: float) -> dict[str, float]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + within
        ready, _, _ = select.select([self._process.stdout], [], [], deadline - time.monotonic())
        line = self._process.stdout.readline() if ready else b""
        if not line:
            raise BenchError("The load client " + ("ended" if ready else "does not answer"))
        answer: dict[str, float] = json.loads(line)
        return answer


@contextmanager
def load(
    build: Path,
    port: int,
    path: str | Path,
    streams: int,
    products: int = 0,
    *,
    is_packed: bool = False,
) -> Iterator[Load]:
    """So many streams of the path, open while the block runs. Versions are kept of the products
    "p0" to "p<products - 1>"; a * in the path is the stream's number, modulo `products`. A Path is
    a file of paths, one for each stream. If `is_packed`, it accepts gzip and counts only bytes.

    Raises BenchError if not all could be opened.
    """
    program = compiled(Path(__file__).with_name("load.c"), build)
    process = subprocess.Popen(
        [
            *(program, str(port), path if isinstance(path, str) else f"@{path}", str(streams)),
            *(str(products), "gzip" if is_packed else ""),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment_with({}),
        start_new_session=True,
    )
    try:
        opened = Load(process)
        if opened.streams < streams:
            raise BenchError(f"Only {opened.streams:,} of {streams:,} streams could be opened")
        yield opened
    finally:
        assert process.stdin is not None
        process.stdin.close()
        stop(process)
        assert process.stdout is not None
        process.stdout.close()
