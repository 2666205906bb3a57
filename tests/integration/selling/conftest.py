"""A shop with something to sell, and the application on it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest

from stream_server.web.auth import Role, Tokens
from tests.support.clients import calling
from tests.support.invariants import assert_consistent
from tests.support.servers import Server, serving

Connection: TypeAlias = "asyncpg.Connection[Any]"
Quantities = Callable[[str], Awaitable[tuple[int, int]]]

SECRET = "a secret of thirty-two characters"
WEBHOOK_SECRET = "whsec_test"

CATALOGUE = """
insert into products (id, name, category, base_price, max_quantity, max_per_order) values
    ('lamp', 'Lamp', 'light', 4000, 10, null),
    ('bulb', 'Bulb', 'light', 500, 100, null),
    ('torch', 'Torch', 'light', 3500, 20, null),
    ('candle', 'Candle', 'light', 300, 50, null),
    ('chair', 'Chair', 'seats', 4100, 10, 3),
    ('book', 'Book', 'paper', 1500, null, null),
    ('shirt', 'Shirt', 'clothes', 2500, 8, null);
insert into variants (id, product_id, variant_value, max_quantity, price) values
    ('shirt-s', 'shirt', 'S', 5, null),
    ('shirt-m', 'shirt', 'M', 3, 2700);
insert into products (id, name, base_price, max_quantity, status) values
    ('secret', 'Secret', 1, 10, 'draft'),
    ('gone', 'Gone', 1, 10, 'discontinued');
"""


@pytest.fixture
async def shop(connection: Connection) -> AsyncIterator[Connection]:
    """A connection to a shop's database; after the test, all must be consistent there."""
    await connection.execute(CATALOGUE)
    yield connection
    await assert_consistent(connection)


@dataclass
class Shop:
    """The application, and clients of it with and without a token."""

    server: Server
    shopper: httpx.AsyncClient
    backend: httpx.AsyncClient
    admin: httpx.AsyncClient
    connection: Connection


async def row(connection: Connection, query: str, *values: object) -> tuple[Any, ...]:
    """The one row that a query must give."""
    found = await connection.fetchrow(query, *values)
    assert found is not None
    return tuple(found)


def token(role: Role, subject: str = "") -> str:
    return Tokens(SECRET).issue(
        subject or f"the {role}", role, now=datetime.now(UTC), lifetime=timedelta(hours=1)
    )


def bearer(role: Role) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(role)}"}


@pytest.fixture
async def api(
    request: pytest.FixtureRequest, shop: Connection, database_url: str
) -> AsyncIterator[Shop]:
    """The application on the shop; settings by `@pytest.mark.settings(…)`."""
    marker = request.node.get_closest_marker("settings")
    settings = {
        "secret_key": SECRET,
        "stripe_webhook_secret": WEBHOOK_SECRET,
        **(marker.kwargs if marker else {}),
    }
    async with (
        serving(database_url, **settings) as server,
        calling(server.url) as shopper,
        calling(server.url) as backend,
        calling(server.url) as admin,
    ):
        backend.headers.update(bearer("shop"))
        admin.headers.update(bearer("admin"))
        yield Shop(server, shopper, backend, admin, shop)


@pytest.fixture
def quantities(shop: Connection) -> Quantities:
    """What is sold and reserved of a product or variant."""

    async def quantities(id_: str) -> tuple[int, int]:
        row = await shop.fetchrow(
            "select sold_quantity, reserved_quantity from products where id = $1 union all"
            " select sold_quantity, reserved_quantity from variants where id = $1",
            id_,
        )
        assert row is not None
        return row[0], row[1]

    return quantities
