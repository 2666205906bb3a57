"""Many at once: what is there is sold, units move once, and nobody sees a deadlock."""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import asyncpg
import pytest

from stream_server.database.transactions import retry
from stream_server.inventory import reservations
from tests.support import buyers
from tests.support.carts import LAMP, SHIRT_S, reserve
from tests.support.invariants import assert_consistent
from tests.support.shop import Quantities, Shop, row
from tests.support.stripe_events import event, send, session

Connection: TypeAlias = "asyncpg.Connection[Any]"
Connect = Callable[[], Awaitable[Connection]]

SIZES = 40
BUYERS = [sys.executable, str(buyers.__file__)]


async def outcome_of(work: Awaitable[Any]) -> str:
    """How a call ended: done, or the SQLSTATE that refused it."""
    try:
        await work
    except asyncpg.PostgresError as error:
        return error.sqlstate or "?"
    return "done"


async def test_the_last_unit_is_sold_once(shop: Connection, connect: Connect) -> None:
    await shop.execute("update products set max_quantity = 1 where id = 'lamp'")
    buyers = [await connect() for _ in range(SIZES)]
    outcomes = await asyncio.gather(
        *(
            outcome_of(
                buyer.fetchval(
                    """select reserve_stock($1, '[{"productId": "lamp", "quantity": 1}]')""",
                    f"buyer {number}",
                )
            )
            for number, buyer in enumerate(buyers)
        )
    )
    assert Counter(outcomes) == {"done": 1, "SS003": SIZES - 1}


CALLS = {
    "expire": "select expire_reservations()",
    "release": "select release_reservation($1)",
    "complete": "select complete_order(reservation => $1, payment => 'pi')",
    "extend": "select extend_reservation($1)",
    "replace": """select reserve_stock('c', '[{"productId": "lamp", "quantity": 3}]')""",
}
# How the second call ends once the first, which it met under way, has committed.
MEETINGS = {
    ("expire", "release"): "SS005",
    ("expire", "complete"): "done",
    ("expire", "replace"): "done",
    ("expire", "expire"): "done",
    ("release", "release"): "SS006",
    ("release", "complete"): "done",
    ("release", "expire"): "done",
    ("release", "replace"): "done",
    ("release", "extend"): "SS006",
    ("complete", "complete"): "done",
    ("complete", "release"): "SS007",
    ("complete", "expire"): "done",
    ("complete", "replace"): "done",
    ("complete", "extend"): "SS007",
    ("replace", "complete"): "done",
    ("replace", "release"): "SS006",
    ("replace", "replace"): "done",
    ("extend", "extend"): "SS008",
}


async def test_two_calls_that_meet_on_one_reservation_move_its_units_once(
    shop: Connection, connect: Connect
) -> None:
    """The second one begins while the first is not committed, and waits for it or passes it by."""
    first, second = await connect(), await connect()
    pid = second.get_server_pid()
    for (one, other), expected in MEETINGS.items():
        token = await shop.fetchval(
            """select reserve_stock('c', '[{"productId": "lamp", "quantity": 2}]') ->> 'token'"""
        )
        if "expire" in (one, other):
            await shop.execute("update reservations set expires_at = now() where token = $1", token)
        transaction = first.transaction()
        await transaction.start()
        await first.execute(CALLS[one], *([token] if "$1" in CALLS[one] else []))
        call = asyncio.create_task(
            outcome_of(second.execute(CALLS[other], *([token] if "$1" in CALLS[other] else [])))
        )
        while not call.done() and not await shop.fetchval(
            "select cardinality(pg_blocking_pids($1)) > 0", pid
        ):
            pass  # asking lets the call go on
        await transaction.commit()
        assert await call == expected, (one, other)
        await assert_consistent(shop)
        status, active = await row(
            shop,
            "select (select status from reservations where token = $1),"
            " (select count(*) from reservations where status = 'active')",
            token,
        )
        units = await row(
            shop, "select sold_quantity, reserved_quantity from products where id = 'lamp'"
        )
        assert units == (2 if status == "converted" else 0, 3 * active if status != "active" else 2)
        await shop.execute(
            "select release_reservation(token) from reservations where status = 'active'"
        )
        await shop.execute("select cancel_order(id) from orders where status = 'paid'")
        await shop.execute("update orders set payment_reference = null")


async def test_carts_in_any_order_never_deadlock(shop: Connection, connect: Connect) -> None:
    """Without retries: the order of locks alone must do."""
    buyers = [await connect() for _ in range(20)]
    articles = ["lamp", "bulb", "torch", "candle", "chair", "book", "shirt-s", "shirt-m"]

    async def shopping(buyer: Connection, rng: random.Random) -> list[str]:
        outcomes = []
        for number in range(25):
            lines = ", ".join(
                '{"productId": "%s", "variantId": %s, "quantity": 1}'
                % (("shirt", f'"{each}"') if "-" in each else (each, "null"))
                for each in rng.sample(articles, rng.randint(1, 6))
            )
            checkout = f"checkout {rng.randrange(12)}"  # shared, so that holds are replaced
            together = json.dumps(
                [
                    {
                        "checkoutToken": f"checkout {rng.randrange(12)}",
                        "variantId": rng.choice(["shirt-s", "shirt-m"]),
                        "quantity": 1,
                    }
                    for _ in range(4)
                ]
            )
            queries = [
                ("select reserve_stock($1, $2)", checkout, f"[{lines}]"),
                ("select reserve_together('shirt', $1)", together),
                ("select complete_order(cart => $2, payment => $1)", f"{id(rng)}-{number}",
                 f"[{lines}]"),
                ("update reservations set expires_at = now() where checkout_token = $1"
                 " and status = 'active'", checkout),
                ("select expire_reservations(5)",),
                ("select cancel_order(id)"
                 " from (select id from orders order by random() limit 1) o",),
                ("select release_reservation(token) from (select token from reservations"
                 " where status = 'active' order by random() limit 1) r",),
            ]  # fmt: skip
            query, *values = rng.choices(queries, weights=[6, 3, 2, 1, 1, 1, 1])[0]
            outcomes.append(await outcome_of(buyer.execute(query, *values)))
        return outcomes

    done = await asyncio.gather(
        *(shopping(buyer, random.Random(number)) for number, buyer in enumerate(buyers))
    )
    outcomes = Counter(each for outcomes in done for each in outcomes)
    assert outcomes["done"] > 100
    # Refusals only: too little, and reservations that somebody else has just ended, or is ending.
    assert set(outcomes) <= {
        "done",
        "55P03",
        "SS003",
        "SS005",
        "SS006",
        "SS007",
        "SS010",
        "SS012",
    }, outcomes


async def test_expiry_webhook_and_cancel_end_one_reservation_in_one_way(
    api: Shop, quantities: Quantities
) -> None:
    ends: Counter[str] = Counter()
    for number in range(25):
        held = await reserve(api, LAMP, SHIRT_S, checkout=f"checkout {number}")
        token = held["token"]
        await api.connection.execute(
            "update reservations set expires_at = now() where token = $1", token
        )
        paid = event(
            "checkout.session.completed", f"evt {number}", **session(token, intent=f"pi {number}")
        )
        now = time.time()
        answers = await asyncio.gather(
            send(api, paid, at=now),
            api.shopper.delete(f"/api/reservations/{token}"),
            retry(lambda: reservations.expire(api.server.app.state.pool)),
            send(api, paid, at=now),
        )
        # Of one signature sent twice at once, the second is a replay.
        assert sorted((answers[0].status_code, answers[3].status_code)) == [200, 400]
        # Paid is paid: whichever came first, the order is filled, and nothing is held any more.
        assert await quantities("lamp") == (2, 0)
        assert await quantities("shirt-s") == (1, 0)
        order = await api.connection.fetchrow("select max(id) as id, count(*) from orders")
        assert order is not None
        assert order["count"] == number + 1
        log = await api.connection.fetch(
            "select operation from inventory_log where product_id = 'lamp' order by version"
        )
        ends[log[-1]["operation"] + " after " + log[-2]["operation"]] += 1
        await asyncio.gather(
            *(api.backend.post(f"/api/orders/{order['id']}/cancel") for _ in range(3))
        )
        assert await quantities("lamp") == (0, 0)
        assert await quantities("shirt-s") == (0, 0)
    assert ends.total() == 25


@pytest.mark.settings(
    database_pool_size=16, database_wait_seconds=60, reservation_rate="", reservation_line_rate=""
)
async def test_n_buyers_of_k_units_by_browser_and_stripe_buy_exactly_k(api: Shop) -> None:
    """Random carts in random order; every one who holds something is completed by Stripe and by
    the browser at the same time."""
    rng = random.Random(23)
    stock = {"lamp": 10, "torch": 20, "chair": 10, "shirt-s": 5, "shirt-m": 3}
    statuses: Counter[int] = Counter()

    async def buyer(number: int) -> None:
        lines = []
        for each in rng.sample(list(stock), rng.randint(1, 4)):
            line: dict[str, Any] = {"productId": each, "quantity": 1}
            if each.startswith("shirt-"):
                line = {"productId": "shirt", "variantId": each, "quantity": 1}
            lines.append(line)
        body = {"checkoutToken": f"buyer {number}", "lines": lines, "allowPartial": True}
        answer = await api.shopper.post("/api/reservations", json=body)
        statuses[answer.status_code] += 1
        if answer.status_code != 201:
            assert answer.json()["error"]["code"] == "insufficient_stock"
            return
        token = answer.json()["data"]["token"]
        payment = f"pi {number}"
        wanted = {"reservationToken": token, "paymentReference": payment}
        paid = event(
            "checkout.session.completed", f"evt {number}", **session(token, intent=payment)
        )
        completed = await asyncio.gather(
            api.backend.post("/api/orders", json=wanted),
            send(api, paid),
            api.backend.post("/api/orders", json=wanted),
        )
        statuses.update(each.status_code for each in completed)

    await asyncio.gather(*(buyer(number) for number in range(150)))
    assert set(statuses) == {200, 201, 409}, statuses
    for id_, units in stock.items():
        table = "variants" if "-" in id_ else "products"
        query = f"select sold_quantity, reserved_quantity from {table} where id = $1"
        assert await row(api.connection, query, id_) == (units, 0), id_


async def test_several_processes_sell_exactly_what_is_there(
    shop: Connection, database_url: str
) -> None:
    """Processes of their own, each with a pool; half of the buyers hold, half buy directly."""
    await shop.execute("update products set max_quantity = 300 where id = 'lamp'")
    tasks = [
        asyncio.create_subprocess_exec(
            *BUYERS, database_url, str(number), stdout=asyncio.subprocess.PIPE
        )
        for number in range(3)
    ]
    sold, refused = 0, 0
    for process in await asyncio.gather(*tasks):
        out, _ = await process.communicate()
        assert process.returncode == 0
        bought, short = map(int, out.split())
        sold, refused = sold + bought, refused + short
    assert sold == 300
    assert refused > 0
    query = "select sold_quantity, reserved_quantity from products where id = 'lamp'"
    assert await row(shop, query) == (300, 0)
