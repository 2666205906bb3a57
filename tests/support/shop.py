"""A shop with something to sell, and the application on it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import httpx

from stream_server.web.auth import Role, Tokens
from tests.support.servers import Server

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


def bearer(role: Role, subject: str = "") -> dict[str, str]:
    return {"Authorization": f"Bearer {token(role, subject)}"}
