"""Runs the benchmarks and shows what they give: `scripts/bench [NAME…] [--quick]`."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bench.context import Context
from bench.figures import Figure, table
from bench.groups import (
    catalogue,
    commits,
    event_loop,
    fan_out,
    hot_product,
    lag,
    leaks,
    polling,
    start_up,
)
from bench.processes import BenchError, raise_descriptors
from stream_server.database.embedded import embedded_postgres

HERE = Path(__file__).parent

# Name to what measures it, and the seconds that it may take.
GROUPS: dict[str, tuple[Callable[[Context], list[Figure]], int]] = {
    "fan-out": (fan_out.measure, 420),
    "event-loop": (event_loop.measure, 120),
    "polling": (polling.measure, 90),
    "commits": (commits.measure, 240),
    "hot-product": (hot_product.measure, 90),
    "catalogue": (catalogue.measure, 120),
    "lag": (lag.measure, 90),
    "start-up": (start_up.measure, 90),
    "leaks": (leaks.measure, 120),
}


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, _leave)
    raise_descriptors()
    folder = Path(tempfile.mkdtemp(prefix="stream-server-bench-"))
    failed = False
    try:
        with embedded_postgres(folder / "data") as postgres:
            context = Context(postgres, HERE / "build", folder, options.quick)
            for name in options.names or GROUPS:
                failed |= not _run(name, context)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return int(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="few rounds, rough figures")
    options = parser.parse_args()
    if unknown := set(options.names) - set(GROUPS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    return options


def _run(name: str, context: Context) -> bool:
    """Measures a group and prints its table; whether all its bars hold."""
    measure, seconds = GROUPS[name]
    began = time.monotonic()
    try:
        with _bounded(seconds):
            figures = measure(context)
    except (BenchError, TimeoutError) as error:
        print(f"\n{name}: {error}")
        return False
    print(f"\n{name} ({time.monotonic() - began:.0f} s)\n{table(figures)}", flush=True)
    return all(figure.holds is not False for figure in figures)


@contextmanager
def _bounded(seconds: int) -> Iterator[None]:
    """Raises TimeoutError in the block after the time."""

    def ring(_: int, __: FrameType | None) -> NoReturn:
        raise TimeoutError(f"was not done after {seconds} s")

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    """Through every `finally`: nothing that was started here stays behind."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
