"""Waiting has bounds: a locked row, a slow statement or a rush stops nobody else."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest

from stream_server.database.pool import Pool
from stream_server.database.shares import Shares, Work
from stream_server.database.transactions import Queries, in_transaction
from stream_server.errors import DatabaseUnavailable, TransactionConflict
from stream_server.inventory.turns import Turns
from tests.support.shop import Shop
from tests.support.stripe_events import event, send, session

Connection: TypeAlias = "asyncpg.Connection[Any]"
Request = Callable[[Shop, int], Coroutine[Any, Any, httpx.Response]]

PRODUCTS = """
insert into products (id, name, base_price, max_quantity)
select 'P' || i, 'P', 100, 50 from generate_series(1, 30) i;
"""


async def cart_of_two(api: Shop, number: int) -> httpx.Response:
    lines = [{"productId": id_, "quantity": 1} for id_ in ("P1", f"P{number + 2}")]
    body = {"checkoutToken": f"c{number}", "lines": lines}
    return await api.shopper.post("/api/reservations", json=body)


async def cart_of_one(api: Shop, number: int) -> httpx.Response:
    body = {"checkoutToken": f"c{number}", "lines": [{"productId": "P1", "quantity": 1}]}
    return await api.shopper.post("/api/reservations", json=body)


async def release(api: Shop, number: int) -> httpx.Response:
    return await api.shopper.delete(f"/api/reservations/held-{number}")


async def adjustment(api: Shop, number: int) -> httpx.Response:
    body = {"change": 1, "reason": "received"}
    return await api.admin.post("/api/admin/products/P1/adjustments", json=body)


async def order(api: Shop, number: int) -> httpx.Response:
    body = {"lines": [{"productId": "P1", "quantity": 1}]}
    return await api.backend.post("/api/orders", json=body)


async def count(api: Shop, number: int) -> httpx.Response:
    counts = [{"productId": "P1", "count": number}]
    body = {"source": f"s{number}", "occurredAt": "2026-05-04T18:00:00Z", "counts": counts}
    return await api.backend.post("/api/admin/sync", json=body)


@pytest.mark.settings(database_wait_seconds=60, reservation_rate="")
@pytest.mark.parametrize(
    "blocked",
    [cart_of_two, cart_of_one, release, adjustment, order, count],
    ids=lambda f: f.__name__,
)
async def test_a_row_that_somebody_has_locked_stops_nobody_else(
    api: Shop, shop: Connection, connect: Callable[[], Awaitable[Connection]], blocked: Request
) -> None:
    """It stays locked until everybody else has been served."""
    await shop.execute(PRODUCTS)
    for number in range(20):
        await shop.execute(
            f'select reserve_stock(\'own {number}\', \'[{{"productId": "P1", "quantity": 1}}]\')'
        )
        await shop.execute(
            "update reservations set token = $1 where checkout_token = $2",
            f"held-{number}",
            f"own {number}",
        )
    locker = await connect()
    await locker.execute("begin; select from products where id = 'P1' for no key update")
    waiting = [asyncio.create_task(blocked(api, number)) for number in range(20)]
    async with asyncio.timeout(30):
        while not await shop.fetchval(  # noqa: ASYNC110  # the event is Postgres's
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.005)
    cart = {"checkoutToken": "z", "lines": [{"productId": "P30", "quantity": 1}]}
    held = await api.shopper.post("/api/reservations", json=cart)
    assert held.status_code == 201
    for path in ("/api/products/P30", "/products/P30", "/api/products?q=P", "/readyz"):
        assert (await api.shopper.get(path)).status_code == 200
    token = held.json()["data"]["token"]
    paid = event("checkout.session.completed", **session(token))
    assert (await send(api, paid)).status_code == 200
    lines = [{"productId": "P29", "quantity": 1}]
    assert (await api.backend.post("/api/orders", json={"lines": lines})).status_code == 201
    await locker.execute("rollback")
    for answer in await asyncio.gather(*waiting):
        assert answer.status_code in (200, 201, 503), answer.text
        assert answer.status_code != 503 or answer.headers["retry-after"]


async def test_a_lock_is_waited_for_so_long_and_not_five_times(
    database_url: str, shop: Connection
) -> None:
    tries = 0

    async def work(connection: Queries) -> None:
        nonlocal tries
        tries += 1
        await connection.execute("update products set sold_quantity = 1 where id = 'lamp'")

    async with Pool(database_url) as pool:
        await shop.execute("begin; select from products where id = 'lamp' for update")
        with pytest.raises(TransactionConflict):
            await in_transaction(pool, work)
        await shop.execute("rollback")
    assert tries == 1


async def test_who_gets_no_connection_in_time_is_told(database_url: str) -> None:
    async with Pool(database_url, max_size=1, wait=0.05) as pool:

        async def work(_: Queries) -> None:
            with pytest.raises(DatabaseUnavailable, match="busy"):
                await asyncio.create_task(pool.fetch_val("select 1"))

        await in_transaction(pool, work)
        assert await pool.fetch_val("select 1") == 1


async def test_each_kind_of_work_is_sure_of_a_fifth() -> None:
    shares = Shares(10)
    for _ in range(6):
        await shares.take(Work.CHANGING, 0.01)
    with pytest.raises(TimeoutError):
        await shares.take(Work.CHANGING, 0.01)
    for work in (Work.READING, Work.SELLING):
        for _ in range(2):
            await shares.take(work, 0.01)
    with pytest.raises(TimeoutError):
        await shares.take(Work.SELLING, 0.01)


async def test_what_comes_free_goes_to_who_has_waited_and_may_have_it() -> None:
    shares = Shares(5)
    for _ in range(3):
        await shares.take(Work.CHANGING, 1)
    order: list[str] = []

    async def wait(name: str, work: Work) -> None:
        await shares.take(work, 10)
        order.append(name)

    tasks = [
        asyncio.create_task(wait("first", Work.CHANGING)),
        asyncio.create_task(wait("second", Work.CHANGING)),
        asyncio.create_task(wait("reader", Work.READING)),
    ]
    await asyncio.wait(tasks[2:])
    assert order == ["reader"]
    shares.give(Work.CHANGING)
    await asyncio.wait(tasks[:1])
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["reader", "first"]
    shares.give(Work.CHANGING)
    await shares.take(Work.CHANGING, 0.01)


async def test_turns_are_given_back_whatever_happens() -> None:
    turns = Turns(1, 0.05)
    async with turns.at(["a", "b"]):
        with pytest.raises(DatabaseUnavailable):
            async with turns.at(["b", "c"]):
                raise AssertionError("it is somebody else's turn")
        async with turns.at(["c"]):
            pass
    with pytest.raises(LookupError):
        async with turns.at(["b", "a", "b"]):
            raise LookupError
    async with turns.at(["a", "b", "c"]):
        pass
    assert not turns._free
