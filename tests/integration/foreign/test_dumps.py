"""What pg_dump takes out of a shop's database comes back and works."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import pytest

from stream_server.database.migrations import check, migrate
from tests.support.invariants import assert_consistent
from tests.support.postgres import program
from tests.support.servers import assert_complete, serving
from tests.support.shop import CATALOGUE
from tests.support.surroundings import IS_POOLED, SCHEMA, opened
from tests.support.templates import Templates

Connection: TypeAlias = Any

pytestmark = pytest.mark.skipif(IS_POOLED, reason="pg_dump goes straight to Postgres")

PSQL, PG_DUMP = program("psql"), program("pg_dump")
SALES = """
select reserve_stock('c1', '[{"productId": "lamp", "quantity": 2}]');
select complete_order(cart => '[{"productId": "shirt", "variantId": "shirt-s", "quantity": 1}]');
"""


@pytest.fixture
async def target(templates: Templates) -> AsyncIterator[tuple[str, str]]:
    """A database with nothing in it: its URL for a superuser, and for the service."""
    around = templates.surroundings
    name = f"target_{os.urandom(6).hex()}"
    await around.administer(f'create database "{name}"')
    yield around.admin_url(name), around.url(name)
    await around.administer(f'drop database "{name}" with (force)')


async def run(*command: str, given: bytes = b"") -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate(given)
    assert process.returncode == 0
    return said


async def dumped(superuser_url: str, *options: str) -> bytes:
    schema = f'--schema="{SCHEMA}"'
    return await run(PG_DUMP, "--no-publications", schema, *options, superuser_url)


async def restored(superuser_url: str, dump: bytes) -> None:
    await run(
        PSQL, "-qX", "--set=ON_ERROR_STOP=1", "--single-transaction", superuser_url, given=dump
    )


@pytest.mark.parametrize(
    "parts",
    [[[]], [["--schema-only"], ["--data-only", "--disable-triggers"]]],
    ids=["whole", "schema, then data"],
)
async def test_a_shop_goes_on_from_its_dump(
    connection: Connection,
    database_url: str,
    templates: Templates,
    target: tuple[str, str],
    parts: list[list[str]],
) -> None:
    await connection.execute(CATALOGUE)
    await connection.execute(SALES)
    source = templates.surroundings.admin_url(urlsplit(database_url).path.strip("/"))
    superuser_url, url = target
    if SCHEMA == "public":
        await run(PSQL, "-qX", superuser_url, given=b"drop schema public")
    for options in parts:
        await restored(superuser_url, await dumped(source, *options))
    await check(url)
    assert await migrate(url) == []
    there = await opened(url)
    try:
        await assert_consistent(there)
        async with serving(url) as server:
            await there.execute(SALES.replace("c1", "c2"))
            await server.published(there)
            await assert_complete(server.hub, there)
        await assert_consistent(there)
        assert await there.fetchval("select log_missed_changes()") == 0
    finally:
        there.terminate()
