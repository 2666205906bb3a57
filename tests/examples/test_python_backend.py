import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest
from playwright.async_api import Page

from tests.support.examples import PATIENCE, command, listens, running, words
from tests.support.site import Site, Stock, shows
from tests.support.surroundings import psql_url

Connection: TypeAlias = "asyncpg.Connection[Any]"
Connect: TypeAlias = Callable[[], Awaitable[Connection]]
SET = "Set-Starter"


@pytest.fixture
async def backend(
    database_url: str, stock: Stock, own_port: int, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """Calls the example, which runs on a database with stock."""
    await stock.add(SET, most=42, name="Set")
    await stock.add("Set-Big", most=10, name="Big set", price=5000)
    await stock.add("Set-Gone", most=0)
    log = tmp_path / "log"
    serve = words(
        command("python-backend", ".venv/bin/uvicorn"),
        {"8080": str(own_port), ".venv/bin/": ""},
    )
    async with running(serve, log, DATABASE_URL=psql_url(database_url)) as process:
        await listens(process, own_port)
        url = f"http://127.0.0.1:{own_port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            yield client


def cart(quantity: int, checkout: str = "c-1") -> dict[str, Any]:
    return {"checkout": checkout, "lines": [{"productId": SET, "quantity": quantity}]}


async def test_browsers_see_what_the_backend_holds_sells_releases_and_cancels(
    backend: httpx.AsyncClient, site: Site, page: Page, connection: Connection
) -> None:
    await page.goto(f"{site.url}/products/{SET}")
    await shows(page, "stock-indicator", "42 items available")

    held = (await backend.post("/checkout", json=cart(2))).json()
    await shows(page, "stock-indicator", "40 items available")
    payment = {"reservation": held["token"], "payment": "p-1", "email": "anna@example.com"}
    paid = await backend.post("/pay", json=payment)
    assert paid.status_code == 201, paid.text
    order = paid.json()
    assert order["status"] == "paid"
    assert (await backend.post("/pay", json=payment)).json() == order, "sold once"
    assert await connection.fetchval(
        "select email from customers_of_orders where order_id = $1", order["orderId"]
    ) == "anna@example.com"  # fmt: skip

    other = (await backend.post("/checkout", json=cart(30, "c-2"))).json()
    await shows(page, "stock-indicator", "Only 10 remaining!")
    assert (await backend.delete(f"/checkout/{other['token']}")).status_code == 200
    await shows(page, "stock-indicator", "40 items available")

    cancelled = await backend.post(f"/orders/{order['orderId']}/cancel")
    assert cancelled.json()["status"] == "cancelled"
    await shows(page, "stock-indicator", "42 items available")
    assert await connection.fetchval(
        "select array_agg(distinct actor) from inventory_log where operation <> 'insert'"
    ) == ["web shop"]


async def test_a_shortage_is_answered_with_what_else_there_is(
    backend: httpx.AsyncClient, connection: Connection
) -> None:
    await connection.execute("update products set category = 'Sets'")
    answer = await backend.post("/checkout", json=cart(43))
    assert answer.status_code == 409
    assert answer.json()["error"] == "there is not enough in stock"
    (line,) = answer.json()["detail"]["lines"]
    assert (line["requested"], line["available"]) == (43, 42)
    assert line["alternatives"] == [{"id": "Set-Big", "name": "Big set"}]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/checkout", {"checkout": "c-1", "lines": []}, 400),
        ("POST", "/checkout", {"checkout": "c", "lines": [{"productId": "x", "quantity": 1}]}, 404),
        ("POST", "/pay", {"reservation": "unknown", "payment": "p", "email": "a"}, 404),
        ("DELETE", "/checkout/unknown", None, 404),
        ("POST", "/orders/999/cancel", None, 404),
    ],
)
async def test_a_refusal_of_the_database_is_an_answer_that_says_why(
    backend: httpx.AsyncClient, method: str, path: str, body: Any, status: int
) -> None:
    answer = await backend.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]


async def test_a_sale_whose_own_row_cannot_be_written_has_not_happened(
    backend: httpx.AsyncClient, connection: Connection
) -> None:
    held = (await backend.post("/checkout", json=cart(2))).json()
    payment = {"reservation": held["token"], "payment": "p-1", "email": None}
    assert (await backend.post("/pay", json=payment)).status_code == 500
    row = await connection.fetchrow(
        "select sold_quantity, reserved_quantity from products where id = $1", SET
    )
    assert row is not None
    assert tuple(row) == (0, 2)


async def test_it_tries_again_after_it_has_waited_too_long_for_a_row(
    backend: httpx.AsyncClient, connection: Connection, connect: Connect
) -> None:
    watching = await connect()

    async def waits_since() -> Any:
        """When the transaction began that waits for the row."""
        while True:  # nothing else tells
            began = await watching.fetchval(
                "select xact_start from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
            )
            if began is not None:
                return began
            await asyncio.sleep(0.02)

    async with connection.transaction(), asyncio.timeout(PATIENCE):
        await connection.execute("update products set base_price = 1 where id = $1", SET)
        asked = asyncio.create_task(backend.post("/checkout", json=cart(1), timeout=PATIENCE))
        first = await waits_since()
        while await waits_since() == first:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert (await asked).status_code == 201
