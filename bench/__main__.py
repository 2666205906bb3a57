"""Runs the benchmarks and shows what they give: `scripts/bench [NAME…] [--quick] [--save]`."""

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

from bench import results
from bench.context import Context
from bench.figures import Figure, table
from bench.groups import (
    catalogue,
    commits,
    event_loop,
    fan_out,
    hot_product,
    imports,
    lag,
    leaks,
    mixed_shop,
    polling,
    reservations,
    start_up,
    worst_address,
)
from bench.processes import BenchError, raise_descriptors
from stream_server.database.embedded import embedded_postgres

HERE = Path(__file__).parent

# Name to what measures it, and the seconds that it may take.
GROUPS: dict[str, tuple[Callable[[Context], list[Figure]], int]] = {
    "fan-out": (fan_out.measure, 420),
    "event-loop": (event_loop.measure, 180),
    "polling": (polling.measure, 90),
    "commits": (commits.measure, 240),
    "hot-product": (hot_product.measure, 90),
    "catalogue": (catalogue.measure, 120),
    "mixed-shop": (mixed_shop.measure, 240),
    "reservations": (reservations.measure, 180),
    "imports": (imports.measure, 180),
    "lag": (lag.measure, 90),
    "start-up": (start_up.measure, 90),
    "leaks": (leaks.measure, 120),
    "worst-address": (worst_address.measure, 360),
}


def main() -> int:
    """The exit code: 1 if a bar is missed or a group could not be measured."""
    options = _options()
    signal.signal(signal.SIGTERM, _leave)
    raise_descriptors()
    names = options.names or list(GROUPS)
    if (load_before := results.busy()) > 0.5:
        print(f"Others are busy on this machine (load {load_before}): figures will be off.")
    folder = Path(tempfile.mkdtemp(prefix="stream-server-bench-"))
    measured: dict[str, list[Figure] | None] = {}
    try:
        with embedded_postgres(folder / "data") as postgres:
            context = Context(postgres, HERE / "build", folder, options.quick)
            for name in names:
                measured[name] = _run(name, context)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    done = {name: figures for name, figures in measured.items() if figures is not None}
    if options.save or not (options.names or options.quick):
        groups = {name: results.group(figures, load_before) for name, figures in done.items()}
        results.save(groups, results.machine(), list(GROUPS))
        print("\nWritten: bench/results.json, docs/images/bench.svg, docs/benchmarks.md")
    missed = [figure.name for each in done.values() for figure in each if figure.holds is False]
    for name in missed:
        print(f"Missed: {name}")
    return int(bool(missed) or len(done) < len(names))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures the service on this machine (docs/benchmarks.md).",
        epilog="A run of everything is saved; others are only printed.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="few rounds, rough figures")
    parser.add_argument("--save", action="store_true", help="save what was measured, in any case")
    options = parser.parse_args()
    if unknown := set(options.names) - set(GROUPS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    return options


def _run(name: str, context: Context) -> list[Figure] | None:
    """Measures a group and prints its table; None if that could not be done."""
    measure, seconds = GROUPS[name]
    began = time.monotonic()
    try:
        with _bounded(seconds):
            figures = measure(context)
    except (BenchError, TimeoutError) as error:
        print(f"\n{name}: {error}", flush=True)
        return None
    print(f"\n{name} ({time.monotonic() - began:.0f} s)\n{table(figures)}", flush=True)
    return figures


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
