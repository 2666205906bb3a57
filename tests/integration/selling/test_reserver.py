"""Many who want one product at the same moment: each gets what is due, in few transactions."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest

from stream_server.database.pool import Pool
from stream_server.errors import (
    DatabaseUnavailable,
    InsufficientStock,
    InvalidRequest,
    MaxPerOrderExceeded,
    ProductNotFound,
    StreamServerError,
    VariantNotFound,
)
from stream_server.inventory.reservations import CartLine
from stream_server.inventory.reserver import Reserver
from tests.support.carts import cart
from tests.support.shop import Quantities, Shop

Connection: TypeAlias = "asyncpg.Connection[Any]"

TRANSACTIONS = "select count(distinct xid) from inventory_log where operation = 'reserve'"
Connect: TypeAlias = Callable[[], Awaitable[Connection]]
ACTIVE = "select count(*) from reservations where status = 'active'"


@pytest.fixture
async def reserver(shop: Connection, database_url: str) -> AsyncIterator[Reserver]:
    async with Pool(database_url, max_size=8, wait=120) as pool:
        yield Reserver(pool, timedelta(minutes=10))


def line(product: str, quantity: int = 1, variant: str | None = None) -> CartLine:
    return {"productId": product, "variantId": variant, "quantity": quantity}


@asynccontextmanager
async def locked(connect: Connect, product: str) -> AsyncIterator[None]:
    """While the block runs, somebody else has the product's row."""
    other = await connect()
    async with other.transaction():
        await other.execute("select from products where id = $1 for update", product)
        yield


async def until_somebody_waits(shop: Connection) -> None:
    while not await shop.fetchval(
        "select count(*) from pg_locks where not granted and pid in"
        " (select pid from pg_stat_activity where datname = current_database())"
    ):
        pass  # asking lets the call go on


async def test_those_who_come_together_hold_in_one_transaction(
    shop: Connection, reserver: Reserver, quantities: Quantities
) -> None:
    held = await asyncio.gather(
        *(
            reserver.reserve(f"c{n}", [line("bulb", 2)], actor=f"actor {n}" if n % 2 else None)
            for n in range(20)
        )
    )
    assert len({each["token"] for each in held}) == 20
    assert held[7]["lines"] == [
        {
            "productId": "bulb",
            "variantId": None,
            "quantity": 2,
            "requested": 2,
            "unitPrice": 500,
        }
    ]
    assert await quantities("bulb") == (0, 40)
    assert await shop.fetchval(TRANSACTIONS) == 1
    # Still, each is a change of its own in the log, of its own actor and reservation.
    database_user = await shop.fetchval("select session_user")
    log = await shop.fetch(
        "select l.actor, r.checkout_token from inventory_log l"
        " join reservations r on l.reference = 'reservation ' || r.id"
        " where l.operation = 'reserve' order by l.version"
    )
    assert [tuple(row) for row in log] == [
        (f"actor {n}" if n % 2 else database_user, f"c{n}") for n in range(20)
    ]


async def test_the_last_units_go_to_those_who_came_first(
    reserver: Reserver, quantities: Quantities
) -> None:
    outcomes = await asyncio.gather(
        *(reserver.reserve(f"c{n}", [line("lamp", 3)]) for n in range(6)),
        return_exceptions=True,
    )
    assert [isinstance(each, dict) for each in outcomes] == [True] * 3 + [False] * 3
    for refused in outcomes[3:]:
        assert isinstance(refused, InsufficientStock)
        assert (refused.lines[0]["requested"], refused.lines[0]["available"]) == (3, 1)
    assert await quantities("lamp") == (0, 9)


async def test_variants_of_one_product_are_held_together_within_the_products_own_stock(
    shop: Connection, reserver: Reserver, quantities: Quantities
) -> None:
    await shop.execute("update products set max_quantity = 6 where id = 'shirt'")
    wanted = ["shirt-s", "shirt-m"] * 4
    outcomes = await asyncio.gather(
        *(
            reserver.reserve(f"c{n}", [line("shirt", variant=variant)])
            for n, variant in enumerate(wanted)
        ),
        return_exceptions=True,
    )
    refused = [n for n, each in enumerate(outcomes) if isinstance(each, InsufficientStock)]
    assert refused == [6, 7]
    assert await quantities("shirt") == (0, 6)
    assert await quantities("shirt-s") == (0, 3)
    assert await quantities("shirt-m") == (0, 3)
    assert await shop.fetchval(TRANSACTIONS) == 1


async def test_what_is_wrong_with_one_cart_does_not_concern_the_others(
    shop: Connection, reserver: Reserver, quantities: Quantities
) -> None:
    async def outcome(checkout: str, wanted: CartLine) -> object:
        try:
            return await reserver.reserve(checkout, [wanted])
        except StreamServerError as error:
            return type(error)

    outcomes: list[Any] = await asyncio.gather(
        outcome("a", line("chair")),
        outcome("b", line("chair", 4)),  # of 3 an order
        outcome("c", line("chair", variant="shirt-s")),
        outcome("d", line("chair", variant="none")),
        outcome("e\n", line("chair")),
        outcome("f", line("chair", 2)),
        outcome("g", line("shirt")),
        outcome("h", line("none")),
        outcome("i", line("gone")),
    )
    assert [each if isinstance(each, type) else dict for each in outcomes] == [
        dict,
        MaxPerOrderExceeded,
        VariantNotFound,
        VariantNotFound,
        InvalidRequest,
        dict,
        InvalidRequest,
        ProductNotFound,
        InsufficientStock,
    ]
    assert await quantities("chair") == (0, 3)
    assert await shop.fetchval(ACTIVE) == 2


async def test_one_checkout_that_asks_twice_at_once_holds_once(
    shop: Connection, reserver: Reserver, quantities: Quantities
) -> None:
    first = await reserver.reserve("mine", [line("lamp", 8)])
    again = await asyncio.gather(
        *(reserver.reserve("mine", [line("lamp", 9)]) for _ in range(3)),
        reserver.reserve("other", [line("lamp")]),
    )
    assert await quantities("lamp") == (0, 10)
    tokens = {
        row[0] for row in await shop.fetch("select token from reservations where status = 'active'")
    }
    assert len(tokens) == 2
    assert again[3]["token"] in tokens
    assert first["token"] not in tokens


async def test_overdue_holds_are_taken_by_those_who_come_together(
    shop: Connection, reserver: Reserver, quantities: Quantities
) -> None:
    for turn in range(20):  # it takes some luck to meet in the middle
        await reserver.reserve("late", [line("lamp", 10)])
        await shop.execute("update reservations set expires_at = now() where status = 'active'")
        held = await asyncio.gather(
            *(reserver.reserve(f"c{turn}.{n}", [line("lamp", 5)]) for n in range(2))
        )
        assert [each["status"] for each in held] == ["active", "active"]
        assert await quantities("lamp") == (0, 10)
        await shop.execute(
            "select release_reservation(token) from reservations where status = 'active'"
        )


async def test_who_leaves_while_waiting_holds_nothing(
    shop: Connection, connect: Connect, reserver: Reserver, quantities: Quantities
) -> None:
    async with locked(connect, "lamp"):
        first = asyncio.create_task(reserver.reserve("first", [line("lamp")]))
        await until_somebody_waits(shop)
        second = asyncio.create_task(reserver.reserve("second", [line("lamp")]))
        third = asyncio.create_task(reserver.reserve("third", [line("lamp")]))
        await asyncio.sleep(0)  # both wait for the first one's transaction to end
        second.cancel()
    await asyncio.gather(first, third)
    assert second.cancelled()
    assert await quantities("lamp") == (0, 2)


async def test_when_all_have_left_those_who_come_later_are_served_together(
    shop: Connection, connect: Connect, reserver: Reserver, quantities: Quantities
) -> None:
    async with locked(connect, "lamp"):
        first = asyncio.create_task(reserver.reserve("first", [line("lamp")]))
        await until_somebody_waits(shop)
        leaving = [asyncio.create_task(reserver.reserve(f"c{n}", [line("lamp")])) for n in range(3)]
        await asyncio.sleep(0)  # they wait for the first one's transaction to end
        for each in leaving:
            each.cancel()
    await first
    await asyncio.gather(*(reserver.reserve(f"d{n}", [line("lamp")]) for n in range(3)))
    assert await quantities("lamp") == (0, 4)
    assert await shop.fetchval(TRANSACTIONS) == 2


async def test_one_who_waits_elsewhere_does_not_keep_the_others_waiting(
    shop: Connection, connect: Connect, reserver: Reserver, quantities: Quantities
) -> None:
    async with locked(connect, "lamp"):
        waiting = asyncio.create_task(reserver.reserve("mine", [line("lamp"), line("torch")]))
        await until_somebody_waits(shop)
        again = asyncio.create_task(reserver.reserve("mine", [line("bulb")]))
        async with asyncio.timeout(20):
            await asyncio.gather(*(reserver.reserve(f"c{n}", [line("bulb")]) for n in range(5)))
        assert await quantities("bulb") == (0, 5)
    await asyncio.gather(waiting, again)
    assert await shop.fetchval(ACTIVE) == 6


async def test_who_is_refused_does_not_wait_for_the_row(
    shop: Connection, connect: Connect, reserver: Reserver
) -> None:
    await shop.execute("update products set max_quantity = 0 where id = 'lamp'")
    async with locked(connect, "lamp"), asyncio.timeout(20):
        refused = await asyncio.gather(
            *(reserver.reserve(f"c{n}", [line("lamp")]) for n in range(5)),
            return_exceptions=True,
        )
    assert {type(each) for each in refused} == {InsufficientStock}


async def test_a_database_that_does_not_answer_is_not_asked_by_each_again(
    shop: Connection, reserver: Reserver
) -> None:
    await shop.execute(
        "create or replace function"
        " reserve_together(product text, carts jsonb, hold interval default '10 minutes')"
        " returns jsonb language plpgsql as"
        " $$ begin raise exception 'starting up' using errcode = '57P03'; end $$"
    )
    outcomes = await asyncio.gather(
        *(reserver.reserve(f"c{n}", [line("lamp")]) for n in range(5)), return_exceptions=True
    )
    assert [type(each) for each in outcomes] == [DatabaseUnavailable] * 5
    assert await shop.fetchval(ACTIVE) == 0


@pytest.mark.settings(database_pool_size=4, reservation_rate="", reservation_line_rate="")
async def test_a_rush_on_one_product_sells_what_is_there_in_few_transactions(
    api: Shop, quantities: Quantities
) -> None:
    """Over HTTP, as browsers do it."""
    answers = await asyncio.gather(
        *(
            api.shopper.post(
                "/api/reservations",
                json=cart({"productId": "bulb", "quantity": 1}, checkout=f"c{n}"),
            )
            for n in range(150)
        )
    )
    assert Counter(each.status_code for each in answers) == {201: 100, 409: 50}
    assert await quantities("bulb") == (0, 100)
    assert await api.connection.fetchval(TRANSACTIONS) < 80


async def test_the_function_says_null_for_what_it_leaves_to_reserve_stock(
    shop: Connection,
) -> None:
    await shop.execute("""select reserve_stock('c0', '[{"productId": "lamp", "quantity": 1}]')""")
    carts = [
        {"checkoutToken": f"c{n}", "quantity": quantity} for n, quantity in enumerate([1, 9, 10, 1])
    ]
    answers = json.loads(
        await shop.fetchval("select reserve_together('lamp', $1)", json.dumps(carts))
    )
    assert [answer and answer["status"] for answer in answers] == [None, "active", None, None]
