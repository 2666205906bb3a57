"""Reservations a second, next to the same from Python, and how soon a stream shows a checkout.

Sixteen clients on one pool of connections, as a server has them. The other way is what one would
write without the functions: BEGIN, SELECT … FOR UPDATE, an UPDATE of what was computed, the
reservation and its line, COMMIT.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median, quantiles
from typing import TypeVar
from uuid import uuid4

import httpx
import uvloop
from httpx_sse import ServerSentEvent, aconnect_sse

from bench.context import Context
from bench.figures import Figure, against, at_least, at_most
from bench.servers import ours
from stream_server.database.pool import Pool
from stream_server.database.transactions import Transaction, in_transaction, retry
from stream_server.inventory import orders, reservations
from stream_server.inventory.reserver import Reserver

T = TypeVar("T")

CLIENTS = 16
PRODUCTS = 1000
HOLD = timedelta(minutes=10)
PEER = "SELECT FOR UPDATE from Python"
PAUSE = 0.15  # seconds: a product's next change is held back for STREAM_CONFLATE_MS; not measured

Reserve = Callable[[str], Awaitable[object]]


def as_the_server(pool: Pool) -> Reserve:
    """The SQL functions, and one transaction for those who come together."""
    reserver = Reserver(pool, HOLD)

    async def reserve(product_id: str) -> object:
        return await reserver.reserve(str(uuid4()), [_line(product_id)])

    return reserve


def one_by_one(pool: Pool) -> Reserve:
    """The SQL function, each hold in a transaction of its own."""

    async def reserve(product_id: str) -> object:
        checkout = str(uuid4())
        return await retry(
            lambda: reservations.reserve(pool, checkout, [_line(product_id)], hold=HOLD)
        )

    return reserve


def from_python(pool: Pool) -> Reserve:
    """As one would write it without the functions: no validation, no replacing, no expiry."""

    async def work(connection: Transaction, product_id: str) -> None:
        row = await connection.fetch_one(
            "select max_quantity, sold_quantity, reserved_quantity from products"
            " where id = :id for update",
            {"id": product_id},
        )
        assert row is not None
        assert row["max_quantity"] - row["sold_quantity"] - row["reserved_quantity"] >= 1
        await connection.execute(
            "update products set reserved_quantity = :reserved where id = :id",
            {"id": product_id, "reserved": row["reserved_quantity"] + 1},
        )
        reservation_id = await connection.fetch_val(
            "insert into reservations (checkout_token, expires_at)"
            " values (:checkout, now() + interval '10 minutes') returning id",
            {"checkout": str(uuid4())},
        )
        await connection.execute(
            "insert into reservation_lines (reservation_id, product_id, quantity)"
            " values (:reservation, :id, 1)",
            {"reservation": reservation_id, "id": product_id},
        )

    async def reserve(product_id: str) -> object:
        return await in_transaction(pool, lambda connection: work(connection, product_id))

    return reserve


WAYS = {"server": as_the_server, "function": one_by_one, PEER: from_python}


@dataclass
class Measured:
    """By round: calls a second, and the 99th percentile of their time in ms."""

    rates: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)


def measure(context: Context) -> list[Figure]:
    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        context.database(PRODUCTS) as database,
    ):
        rounds, seconds = context.pick(5, 2), context.pick(4, 2)
        hot = runner.run(compare(database.url, 1, rounds, seconds))
        many = runner.run(compare(database.url, PRODUCTS, rounds, seconds))
        with ours(database, context.folder) as server:
            seen = runner.run(until_seen(database.url, server.port, context.pick(40, 10)))
    return [
        *_figures("one product", hot, bar=2),
        *_figures(f"{PRODUCTS:,} products", many),
        *(
            figure
            for name, times in seen.items()
            for figure in (
                Figure(f"a checkout's {name} on a stream, median", median(times), "ms"),
                Figure(f"a checkout's {name} on a stream, worst", max(times), "ms", at_most(100)),
            )
        ),
    ]


def _figures(title: str, found: dict[str, Measured], bar: float | None = None) -> list[Figure]:
    server, function, peer = (found[name] for name in WAYS)
    least = None if bar is None else at_least(bar)
    return [
        against(f"holds of {title}", "/s", server.rates, PEER, peer.rates, least),
        against(f"holds of {title}, one by one", "/s", function.rates, PEER, peer.rates),
        against(f"holds of {title}, p99", "ms", server.p99s, PEER, peer.p99s),
    ]


async def compare(url: str, products: int, rounds: int, seconds: float) -> dict[str, Measured]:
    """In turns, so that all see the same machine."""
    found = {name: Measured() for name in WAYS}
    async with Pool(url, max_size=CLIENTS) as pool:
        ways = {name: way(pool) for name, way in WAYS.items()}
        for reserve in ways.values():  # connections and plans
            await _timed_round(reserve, products, 0.5)
        for _ in range(rounds):
            for name, reserve in ways.items():
                rate, p99 = await _timed_round(reserve, products, seconds)
                found[name].rates.append(rate)
                found[name].p99s.append(p99)
    return found


async def _timed_round(reserve: Reserve, products: int, seconds: float) -> tuple[float, float]:
    """All clients at work for so long: calls a second, and the 99th percentile in ms."""
    rng = random.Random(1)
    times: list[float] = []
    begin = time.perf_counter()

    async def client() -> None:
        while (start := time.perf_counter()) < begin + seconds:
            await reserve(f"p{rng.randrange(products)}")
            times.append(time.perf_counter() - start)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    rate = len(times) / (time.perf_counter() - begin)
    return rate, quantiles(times, n=100)[98] * 1000


async def until_seen(url: str, port: int, times: int) -> dict[str, list[float]]:
    """Milliseconds from the call of each write of a checkout until a stream has it."""
    found: dict[str, list[float]] = {"hold": [], "sale": [], "cancel": []}
    stream = f"http://127.0.0.1:{port}/api/inventory/p0/stream"
    async with (
        Pool(url) as pool,
        httpx.AsyncClient(timeout=30, trust_env=False) as client,
        aconnect_sse(client, "GET", stream) as source,
    ):
        events = source.aiter_sse()
        await anext(events)  # the snapshot

        async def timed(name: str, work: Awaitable[T]) -> T:
            begin = time.perf_counter()
            write = asyncio.ensure_future(work)
            await _next_update(events)
            found[name].append((time.perf_counter() - begin) * 1000)
            await asyncio.sleep(PAUSE)
            return await write

        for number in range(times):
            held = await timed(
                "hold", reservations.reserve(pool, f"c{number}", [_line("p0")], hold=HOLD)
            )
            order = await timed("sale", orders.complete(pool, reservation_token=held["token"]))
            await timed("cancel", orders.cancel(pool, order["orderId"]))
    return found


async def _next_update(events: AsyncIterator[ServerSentEvent]) -> None:
    while (await anext(events)).event != "inventory_updated":
        pass


def _line(product_id: str) -> reservations.CartLine:
    return {"productId": product_id, "variantId": None, "quantity": 1}
