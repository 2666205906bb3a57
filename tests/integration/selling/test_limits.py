"""Whom a rate is counted for, where a proxy stands between the shoppers and the server."""

from typing import TypeAlias

import asyncpg
import httpx
import pytest

from tests.support.commands import serving, status

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CART = {"checkoutToken": "c", "lines": [{"productId": "bulb", "quantity": 1}]}


async def reserve(client: httpx.AsyncClient, *forwarded_for: str) -> int:
    """The status of a reservation that says it comes from there."""
    headers = [("X-Forwarded-For", each) for each in forwarded_for]
    return (await client.post("/api/reservations", json=CART, headers=headers)).status_code


@pytest.mark.parametrize("proxies", ["", "192.0.2.1, 127.0.0.0/8"])
async def test_shoppers_behind_a_trusted_proxy_are_limited_apart(
    shop: Connection, database_url: str, proxies: str
) -> None:
    with serving(
        database_url=database_url, reservation_rate="2/hour", forwarded_allow_ips=proxies
    ) as (_, url):
        await status(f"{url}/readyz", 200)
        async with httpx.AsyncClient(base_url=url) as client:
            for address in ("203.0.113.7", "203.0.113.8", "2001:db8::1"):
                assert [await reserve(client, address) for _ in range(3)] == [201, 201, 429]
            # What the shopper wrote stands before what the proxy saw.
            assert await reserve(client, "198.51.100.1, 203.0.113.7") == 429
            assert await reserve(client, "198.51.100.1", "203.0.113.7") == 429


async def test_a_client_that_is_no_trusted_proxy_cannot_choose_its_address(
    shop: Connection, database_url: str
) -> None:
    with serving(
        database_url=database_url, reservation_rate="2/hour", forwarded_allow_ips="192.0.2.1"
    ) as (_, url):
        await status(f"{url}/readyz", 200)
        async with httpx.AsyncClient(base_url=url) as client:
            addresses = ("203.0.113.7", "203.0.113.8", "192.0.2.1")
            assert [await reserve(client, each) for each in addresses] == [201, 201, 429]
