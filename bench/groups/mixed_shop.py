"""A real shop: 10,000 listing pages of 24 products each, of 10,000, so that hardly two streams show
the same, and some products are on a quarter of all pages.

200 changes a second, first of any product, then of products as popular as they are on pages. The
floor is the same pattern of bare write() calls: each event to as many streams, others each time,
and pings as often as ours.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from bench.context import Context
from bench.database import Database
from bench.figures import Figure, against, at_most
from bench.load import Load, load
from bench.processes import BenchError
from bench.servers import FLOOR, Ours, floor, ours
from stream_server.streaming.hub import PING_SLOTS

SHOWN = 24  # products on a page
RATE = 200  # changes a second
PING_SECONDS = 25  # as rarely as may be
SKEW = 0.6  # popularity falls with the rank to this power: the first is on 24 of 100 pages


@dataclass(frozen=True, slots=True)
class Shop:
    """The pages, as a file of paths, and how many times a change of a product is delivered."""

    products: int
    streams: int
    pages: Path
    first_page: str
    deliveries: dict[str, float]  # a change, by how changes are spread


@dataclass(frozen=True, slots=True)
class Run:
    """What one server did while products changed. Lag is in milliseconds."""

    microseconds: float  # of CPU a delivery, by the clock of the kernel
    deliveries: float
    bytes: float  # a delivery
    lag_p50: int
    lag_p99: int


def measure(context: Context) -> list[Figure]:
    shop = _shop(context)
    seconds = context.pick(15, 5)
    figures: list[Figure] = []
    with context.database(shop.products) as database:
        quiet = {"STREAM_PING_SECONDS": str(PING_SECONDS)}
        with ours(database, context.folder, quiet) as server:
            figures += _openings(server, shop)
            unwatched = _unwatched(server, database, shop, seconds)
            with _open(context, server, shop) as (opened, kilobytes):
                figures.append(Figure("memory a stream", kilobytes, "KB", at_most(4)))
                plain = {
                    spread: _run(context, server, opened, database, shop, spread, seconds)
                    for spread in shop.deliveries
                }
            floors = _floors(context, shop, seconds)
            with _open(context, server, shop, is_packed=True) as (opened, _):
                packed = _run(context, server, opened, database, shop, "uniform", seconds)
        with (
            ours(database, context.folder, quiet) as server,
            _open(context, server, shop, is_packed=True) as (_, kilobytes),
        ):
            figures.append(Figure("memory a stream, gzip", kilobytes, "KB", at_most(4)))
        with (
            ours(database, context.folder, quiet | {"STREAM_CONFLATE_MS": "0"}) as server,
            _open(context, server, shop) as (opened, _),
        ):
            exact = {
                spread: _run(context, server, opened, database, shop, spread, seconds)
                for spread in shop.deliveries
            }
    for spread, run in plain.items():
        name = f"CPU a delivery, {spread} changes"
        bar = at_most(1.5)
        figures.append(against(name, "µs", [run.microseconds], FLOOR, [floors[spread]], bar))
        own = unwatched / run.deliveries * 1e6
        figures.append(Figure(f"{name}, of it what nobody watches", own, "µs"))
        figures.append(Figure(f"deliveries, {spread} changes", run.deliveries, "/s"))
        figures.append(Figure(f"lag, {spread} changes, p50", run.lag_p50, "ms"))
        figures.append(Figure(f"lag, {spread} changes, p99", run.lag_p99, "ms"))
    figures += [
        Figure("lag without conflation, uniform changes, p50", exact["uniform"].lag_p50, "ms"),
        Figure(
            "lag without conflation, uniform changes, p99", exact["uniform"].lag_p99, "ms",
            at_most(20),
        ),
        # Without a bar: to write one change to a quarter of all pages takes longer by itself.
        Figure("lag without conflation, skewed changes, p50", exact["skewed"].lag_p50, "ms"),
        Figure("lag without conflation, skewed changes, p99", exact["skewed"].lag_p99, "ms"),
        against(
            "CPU a delivery, gzip", "µs", [packed.microseconds],
            "plain", [plain["uniform"].microseconds],
        ),
        against("bytes a delivery, gzip", "B", [packed.bytes], "plain", [plain["uniform"].bytes]),
    ]  # fmt: skip
    return figures


def _shop(context: Context) -> Shop:
    products = context.pick(10_000, 2_000)
    streams = context.pick(10_000, 2_000)
    rng = random.Random(7)
    weights = [rank**-SKEW for rank in range(1, products + 1)]
    cumulated = list(accumulate(weights))
    everything = range(products)
    shown_by = [0] * products
    pages = []
    for _ in range(streams):
        page: set[int] = set()
        while len(page) < SHOWN:
            page.update(rng.choices(everything, cum_weights=cumulated, k=SHOWN - len(page)))
        for product in page:
            shown_by[product] += 1
        pages.append(f"/api/inventory/stream?productIds={','.join(f'p{i}' for i in page)}")
    file = context.folder / "pages.txt"
    file.write_text("\n".join(pages) + "\n")
    popular = sum(n * weight for n, weight in zip(shown_by, weights, strict=True)) / cumulated[-1]
    return Shop(
        products,
        streams,
        file,
        pages[0],
        {"uniform": sum(shown_by) / products, "skewed": popular},
    )


@contextmanager
def _open(
    context: Context, server: Ours, shop: Shop, *, is_packed: bool = False
) -> Iterator[tuple[Load, float]]:
    """Every page's stream, and how many KB of memory each took."""
    server.process.settle()
    before = server.process.memory()
    with load(context.build, server.port, shop.pages, shop.streams, is_packed=is_packed) as opened:
        server.process.settle()
        yield opened, (server.process.memory() - before) / shop.streams / 1024
    server.wait_until_empty()


def _run(
    context: Context,
    server: Ours,
    opened: Load,
    database: Database,
    shop: Shop,
    spread: str,
    seconds: int,
) -> Run:
    product = f"random(0, {shop.products - 1})"
    if spread == "skewed":
        # The same law by a quantile: the part of weights up to rank r grows as r^(1 - SKEW).
        power = 1 / (1 - SKEW)
        product = f"int({shop.products - 1} * pow(random(0, 1000000) / 1000000.0, {power:.6f}))"
    with database.writer(product, seconds + 3, clients=2, per_second=RATE) as writer:
        time.sleep(2)
        opened.report()
        delivered, cpu, began = _delivered(server), server.process.cpu(), time.monotonic()
        time.sleep(seconds)
        cpu = server.process.cpu() - cpu
        delivered = _delivered(server) - delivered
        elapsed = time.monotonic() - began
        report = opened.report()
        writer.result()
    if not delivered:
        raise BenchError("Nothing was delivered")
    return Run(
        cpu / delivered * 1e6,
        delivered / elapsed,
        report.bytes / delivered,
        report.lag_p50,
        report.lag_p99,
    )


def _unwatched(server: Ours, database: Database, shop: Shop, seconds: int) -> float:
    """Seconds of CPU a second for the same changes when no stream is open."""
    product = f"random(0, {shop.products - 1})"
    with database.writer(product, seconds + 3, clients=2, per_second=RATE) as writer:
        time.sleep(2)
        cpu, began = server.process.cpu(), time.monotonic()
        time.sleep(seconds)
        used = (server.process.cpu() - cpu) / (time.monotonic() - began)
        writer.result()
    return used


def _delivered(server: Ours) -> float:
    for line in server.get("/metrics").decode().splitlines():
        if line.startswith("stream_server_deliveries_total "):
            return float(line.rpartition(" ")[2])
    raise BenchError("The server does not count deliveries")


def _floors(context: Context, shop: Shop, seconds: int) -> dict[str, float]:
    """Microseconds a delivery, by how changes are spread. Pings go out, too."""
    data = b'{"productId":"p1234",' + b'"a":"' + b"x" * 280 + b'"}'
    given = {}
    with (
        floor(context.build, context.folder) as peer,
        load(context.build, peer.port, "/sub", shop.streams) as opened,
    ):
        for spread, deliveries in shop.deliveries.items():
            to = max(1, round(deliveries))
            opened.report()
            cpu = peer.process.cpu()
            posts = pings = 0
            began = time.monotonic()
            while (elapsed := time.monotonic() - began) < seconds:
                peer.publish(data, "aaaa.10000:10000:", to=to)
                posts += 1
                if elapsed > pings * PING_SECONDS / PING_SLOTS:
                    peer.publish(b'{"time":1800000000000}', "", to=shop.streams // PING_SLOTS)
                    pings += 1
                time.sleep(max(0.0, began + posts / RATE - time.monotonic()))
            given[spread] = (peer.process.cpu() - cpu) / (posts * to) * 1e6
    return given


def _openings(server: Ours, shop: Shop) -> list[Figure]:
    """Bytes on the wire until a stream has its first state, the head included."""
    plain = _opening(server, shop.first_page, "")
    packed = _opening(server, shop.first_page, "Accept-Encoding: gzip\r\n")
    return [
        Figure("bytes of an opening", plain, "B"),
        Figure("bytes of an opening, gzip", packed, "B", at_most(2048)),
    ]


def _opening(server: Ours, path: str, header: str) -> int:
    size = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as stream:
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode())
        size += len(stream.recv(65_536))
        stream.settimeout(0.5)
        try:
            while more := stream.recv(65_536):
                size += len(more)
        except TimeoutError:
            return size
    raise BenchError("The stream ended")
