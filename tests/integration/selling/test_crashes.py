"""kill -9 of the server while it sells: nothing leaks or is done twice; what was told is kept."""

import asyncio
import os
import signal
import sys
from typing import Any

import httpx

from tests.support.clients import calling
from tests.support.invariants import assert_consistent
from tests.support.shop import SECRET, WEBHOOK_SECRET, Connection, bearer, row

BUYERS = 60


async def served(url: str, database_url: str) -> asyncio.subprocess.Process:
    """A server in a process of its own, ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stream_server.cli", "serve", "--port", url.rpartition(":")[2]),
        env={
            **os.environ,
            "DATABASE_URL": database_url,
            "SECRET_KEY": SECRET,
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "RESERVATION_RATE": "",
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(30), calling(url) as client:
        while True:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return process
            except httpx.TransportError:
                await asyncio.sleep(0.02)


async def test_a_killed_server_leaves_no_half_sale_and_a_repeat_sells_nothing_twice(
    shop: Connection, database_url: str, port: int
) -> None:
    await shop.execute("update products set max_quantity = 1000 where id = 'lamp'")
    url = f"http://127.0.0.1:{port}"
    told: dict[str, int] = {}  # payment to order, as buyers were answered
    halfway = asyncio.Event()

    async def buyer(client: httpx.AsyncClient, number: int) -> None:
        lines: list[dict[str, Any]] = [
            {"productId": "lamp", "quantity": 2},
            {"productId": "book", "quantity": 1},
        ][: 1 + number % 2]  # one line: shares a transaction with others
        payment = f"pi {number}"
        try:
            held = await client.post(
                "/api/reservations", json={"checkoutToken": f"buyer {number}", "lines": lines}
            )
            answer = await client.post(
                "/api/orders",
                json={
                    "reservationToken": held.json()["data"]["token"],
                    "paymentReference": payment,
                },
            )
            # Paid before the server was killed: the new hold is refused, with the order that is.
            body = answer.json()
            order = body["data"] if body["success"] else body["error"]["details"]
            assert told.setdefault(payment, order["orderId"]) == order["orderId"]
        except httpx.TransportError:
            return  # the server is gone; whether it was done, the buyer does not know
        finally:
            if number == BUYERS // 3:
                halfway.set()

    for _ in range(3):
        halfway.clear()
        server = await served(url, database_url)
        try:
            async with calling(url) as client:
                client.headers.update(bearer("shop"))
                shopping = asyncio.gather(*(buyer(client, number) for number in range(BUYERS)))
                await halfway.wait()
                server.send_signal(signal.SIGKILL)
                await shopping
        finally:
            await server.wait()
        await assert_consistent(shop)

    server = await served(url, database_url)
    try:
        async with calling(url) as client:
            client.headers.update(bearer("shop"))
            # Who was told nothing pays again, with the same reference: what had been done stays.
            for number in range(BUYERS):
                order = await shop.fetchrow(
                    "select id, reservation_id from orders where payment_reference = $1",
                    f"pi {number}",
                )
                if order is None:
                    await buyer(client, number)
                else:
                    assert told.get(f"pi {number}", order["id"]) == order["id"]
    finally:
        server.terminate()
        await server.wait()
    assert len(told) <= BUYERS
    assert await row(shop, "select count(*) from orders") == (BUYERS,)
    assert await row(shop, "select sold_quantity from products where id = 'lamp'") == (2 * BUYERS,)
    # Holds of buyers who never came back end by themselves.
    await shop.execute("update reservations set expires_at = now() where status = 'active'")
    await shop.fetchval("select expire_reservations(1000)")
    assert await row(
        shop, "select sold_quantity, reserved_quantity from products where id = 'lamp'"
    ) == (2 * BUYERS, 0)
