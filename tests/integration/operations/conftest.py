"""A pool, and the application with clients that have a token, on a database of the test's own."""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import asyncpg
import pytest

from stream_server.database.pool import Pool
from tests.support.clients import calling
from tests.support.office import Office
from tests.support.servers import serving
from tests.support.shop import SECRET, bearer

Connection: TypeAlias = "asyncpg.Connection[Any]"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with Pool(database_url) as pool:
        yield pool


@pytest.fixture
async def office(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Office]:
    """Settings by `@pytest.mark.settings(…)`."""
    marker = request.node.get_closest_marker("settings")
    settings = {"secret_key": SECRET, **(marker.kwargs if marker else {})}
    async with (
        serving(database_url, **settings) as server,
        calling(server.url) as anyone,
        calling(server.url) as shop,
        calling(server.url) as admin,
    ):
        shop.headers.update(bearer("shop"))
        admin.headers.update(bearer("admin"))
        yield Office(server, anyone, shop, admin)
