"""A pool, and the application with clients that have a token, on a database of the test's own."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest

from stream_server.database.pool import Pool
from stream_server.web.auth import Role, Tokens
from tests.support.clients import calling
from tests.support.servers import Server, serving

Connection: TypeAlias = "asyncpg.Connection[Any]"

SECRET = "a secret of thirty-two characters"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with Pool(database_url) as pool:
        yield pool


@dataclass
class Office:
    """The application, and clients of it."""

    server: Server
    anyone: httpx.AsyncClient
    shop: httpx.AsyncClient
    admin: httpx.AsyncClient


def bearer(role: Role, subject: str = "") -> dict[str, str]:
    token = Tokens(SECRET).issue(
        subject or f"the {role}", role, now=datetime.now(UTC), lifetime=timedelta(hours=1)
    )
    return {"Authorization": f"Bearer {token}"}


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
