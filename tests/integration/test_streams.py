"""What a page sees on its stream when rows change in Postgres (R11, R12)."""

from collections.abc import Awaitable, Callable

import pytest
from tests.integration.clients import reading
from tests.integration.servers import Connection, Server, add_products, sell

Connect = Callable[[], Awaitable[Connection]]


async def test_a_stream_begins_with_the_state_at_once(
    server: Server, connection: Connection
) -> None:
    """R11. The snapshot is in the bytes that follow the head, with an id to resume from."""
    await add_products(connection, 1)
    await server.published(connection)
    async with reading(f"{server.url}/api/inventory/unit-00000/stream") as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.response.headers["cache-control"] == "no-store, no-transform"
        assert stream.response.headers["x-accel-buffering"] == "no"
        snapshot = await stream.next("snapshot")
        assert [each["productId"] for each in snapshot["products"]] == ["unit-00000"]
        assert snapshot["unknown"] == []
        assert snapshot["live"] is True
        assert stream.last_id.startswith(f"{server.hub.epoch}.")
        assert stream.retry == 2000
