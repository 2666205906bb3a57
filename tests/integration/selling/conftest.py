"""A shop with something to sell, and the application on it."""

from collections.abc import AsyncIterator

import pytest

from tests.support.clients import calling
from tests.support.invariants import assert_consistent
from tests.support.servers import serving
from tests.support.shop import (
    CATALOGUE,
    SECRET,
    WEBHOOK_SECRET,
    Connection,
    Quantities,
    Shop,
    bearer,
)


@pytest.fixture
async def shop(connection: Connection) -> AsyncIterator[Connection]:
    """A connection to a shop's database; after the test, all must be consistent there."""
    await connection.execute(CATALOGUE)
    yield connection
    await assert_consistent(connection)


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
