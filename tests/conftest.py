"""A real Postgres for every test that asks for one.

`TEST_DATABASE_URL` names a server on which its user may CREATE DATABASE; without it, an embedded
one runs for the session. Each test gets a database of its own, copied from a migrated template.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from stream_server.database.embedded import embedded_postgres
from stream_server.database.migrations import migrate

Connection: TypeAlias = "asyncpg.Connection[Any]"  # generic in the stubs only


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a database on a server where databases can be made."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    # Not pytest's own temporary folder: the next session closes that to other users.
    folder = Path(tempfile.mkdtemp(prefix="stream-server-test-"))
    try:
        settings = {"max_connections": "200", "deadlock_timeout": "50ms"}
        with embedded_postgres(folder, settings=settings, throwaway=True) as server:
            yield server.url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template(postgres: str) -> Iterator[str]:
    """The name of a database with this checkout's schema and nothing in it."""
    name = f"template_{uuid4().hex}"

    async def make() -> None:
        await _administer(postgres, f'create database "{name}"')
        await migrate(_url_of(postgres, name))

    asyncio.run(make())
    yield name
    asyncio.run(_administer(postgres, f'drop database "{name}" with (force)'))


@pytest.fixture
async def database_url(postgres: str, template: str) -> AsyncIterator[str]:
    """The URL of a fresh, migrated database, dropped after the test."""
    async with _database(postgres, template) as url:
        yield url


@pytest.fixture
async def empty_database_url(postgres: str) -> AsyncIterator[str]:
    """The URL of a fresh database without any schema, dropped after the test."""
    async with _database(postgres, "template1") as url:
        yield url


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    """A connection to the test's database, as psql would have it."""
    connection: Connection = await asyncpg.connect(database_url)
    yield connection
    connection.terminate()


@pytest.fixture
async def connect(database_url: str) -> AsyncIterator[Callable[[], Awaitable[Connection]]]:
    """Opens as many more of them as a test needs."""
    async with AsyncExitStack() as stack:

        async def connect() -> Connection:
            connection: Connection = await asyncpg.connect(database_url)
            stack.callback(connection.terminate)
            return connection

        yield connect


@asynccontextmanager
async def _database(postgres: str, template: str) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex}"
    await _administer(postgres, f'create database "{name}" template "{template}"')
    try:
        yield _url_of(postgres, name)
    finally:
        await _administer(postgres, f'drop database "{name}" with (force)')


async def _administer(url: str, statement: str) -> None:
    connection: Connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _url_of(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()
