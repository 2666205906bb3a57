"""A page carries its products as they are, and the position from which its stream goes on."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.clients import calling, reading
from tests.support.servers import DIRECT, Connection, Server, add_products, sell, serving

JSON = dict[str, Any]


@pytest.fixture
async def shop(database_url: str, connection: Connection) -> AsyncIterator[Server]:
    async with serving(database_url, http=DIRECT) as server:
        await add_products(connection, 3)
        await connection.execute(
            "update products set name = '</script><!--<script>' where id = 'unit-00001'"
        )
        await server.published(connection)
        yield server


async def stock_of(server: Server, path: str) -> JSON:
    """As a browser finds it: the text up to the end of the element."""
    async with calling(server.url) as client:
        page = (await client.get(path)).text
    found = re.search(r"<script[^>]* data-stock>(.*?)</script>", page, re.DOTALL | re.IGNORECASE)
    assert found
    stock: JSON = json.loads(found[1])
    return stock


@pytest.mark.parametrize("path", ["/", "/products", "/products/unit-00001"])
async def test_a_pages_stream_begins_with_what_changed_since(
    shop: Server, connection: Connection, path: str
) -> None:
    stock = await stock_of(shop, path)
    ids = list(stock["known"])
    assert "unit-00001" in ids
    async with calling(shop.url) as client:
        batch = (await client.post("/api/inventory/batch", json={"productIds": ids})).json()
    assert list(stock["known"].values()) == batch["data"]
    url = f"{shop.url}/api/inventory/stream?productIds={','.join(ids)}"
    async with reading(f"{url}&lastEventId={stock['position']}") as stream:
        assert (await stream.next("snapshot"))["products"] == []
    await sell(connection, "unit-00001")
    await shop.published(connection)
    async with reading(f"{url}&lastEventId={stock['position']}") as stream:
        changed = (await stream.next("snapshot"))["products"]
    assert [each["productId"] for each in changed] == ["unit-00001"]


async def test_a_page_of_another_history_is_reset(shop: Server) -> None:
    stock = await stock_of(shop, "/products/unit-00001")
    _, _, snapshot = stock["position"].partition(".")
    url = f"{shop.url}/api/inventory/unit-00001/stream?lastEventId=other.{snapshot}"
    async with reading(url) as stream:
        await stream.next("reset")
        assert len((await stream.next("snapshot"))["products"]) == 1
