"""What a shop's pages are told of products, and what happens while the database is away."""

import json
from typing import Any, TypeAlias

import asyncpg
import pytest

from tests.support.carts import LAMP, cart
from tests.support.clients import calling
from tests.support.servers import app_on, started
from tests.support.shop import SECRET, Shop, bearer

Connection: TypeAlias = "asyncpg.Connection[Any]"


async def found(api: Shop, query: str) -> list[str]:
    answer = await api.shopper.get(f"/api/products?{query}")
    assert answer.status_code == 200, answer.text
    return [each["productId"] for each in answer.json()["data"]]


async def test_products_are_found_by_words_and_category_in_the_order_of_names(
    api: Shop,
) -> None:
    everything = ["book", "bulb", "candle", "chair", "gone", "lamp", "shirt", "torch"]
    assert await found(api, "") == everything
    assert await found(api, "category=light") == ["bulb", "candle", "lamp", "torch"]
    assert await found(api, "q=LAM") == ["lamp"]
    assert await found(api, "q=light&category=paper") == []
    assert await found(api, "q=%25") == []  # LIKE's own characters are characters
    assert await found(api, "q=_____") == []
    pages: list[list[str]] = []
    after: str | None = ""
    while after is not None:
        answer = (await api.shopper.get(f"/api/products?limit=3&after={after}")).json()
        pages.append([each["productId"] for each in answer["data"]])
        after = answer["next"]
    assert pages == [everything[:3], everything[3:6], everything[6:]]


@pytest.mark.parametrize(
    "asked",
    [
        "find_alternatives('{a1}', 3)",
        "find_alternatives('{a1,a2,a3,a4,a5}', 3)",
        "find_products($$'a2000'$$, null, null, 51)",
        "find_products($$'nothing'$$, null, null, 51)",
        "find_products(null, 'c7', 'a507', 51)",
        "find_products(null, null, 'a1000', 51)",
    ],
)
async def test_what_it_takes_to_find_a_few_products_does_not_grow_with_the_catalogue(
    shop: Connection, asked: str
) -> None:
    """In pages of Postgres; with 5,000 products and with 15,000."""
    read = []
    transaction = shop.transaction()
    await transaction.start()
    await shop.execute("alter table products disable trigger user")  # quicker
    for first, last in ((1, 5000), (5001, 15000)):
        await shop.execute(
            """
            insert into products (id, name, description, category, base_price, max_quantity,
                                  version, published_at)
            select 'a' || n, 'A' || n, repeat('lorem ipsum ', 40), 'c' || n % 50,
                   100 + n * 7919 % 10000, 100, 1, now()
              from generate_series($1::int, $2::int) n
            """,
            first,
            last,
        )
        await shop.execute("analyze products")
        explain = f"explain (analyze, buffers, format json) select * from {asked}"
        (explained,) = json.loads(await shop.fetchval(explain))
        read.append(sum(explained["Plan"][f"Shared {each} Blocks"] for each in ("Hit", "Read")))
    await transaction.rollback()
    assert read[1] < read[0] * 1.5 + 20


async def test_a_product_has_facts_and_live_numbers(api: Shop) -> None:
    data = (await api.shopper.get("/api/products/shirt")).json()["data"]
    assert (data["category"], data["hasVariants"], data["maxPerOrder"]) == ("clothes", True, None)
    assert data["availableQuantity"] == 8
    assert [each["variantId"] for each in data["variants"]] == ["shirt-m", "shirt-s"]
    for unknown in ("nope", "secret", "%00"):
        for path in ("", "/alternatives"):
            answer = await api.shopper.get(f"/api/products/{unknown}{path}")
            assert answer.status_code == 404
    for wrong in ("limit=0", "limit=x", "q=%00", "q=" + "x" * 300):
        assert (await api.shopper.get(f"/api/products?{wrong}")).status_code == 400, wrong


async def test_while_the_database_is_away_the_server_runs_and_says_so() -> None:
    app = app_on("postgresql://nobody@127.0.0.1:1/nowhere", secret_key=SECRET)
    async with started(app) as server, calling(server.url) as client:
        assert (await client.get("/healthz")).status_code == 200
        client.headers.update(bearer("admin"))
        for path, body in (
            ("/api/reservations", cart(LAMP)),
            ("/api/orders", {"lines": [LAMP]}),
            ("/api/admin/products/lamp/adjustments", {"change": 1, "reason": "count"}),
        ):
            answer = await client.post(path, json=body)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
