"""A real Postgres for every test that asks for one.

`TEST_DATABASE_URL` names a server on which its user may CREATE DATABASE. Without it, each process
that runs tests starts an embedded one, in memory where there is room; tests/support/postgres.py
says which.
Each test gets a database of its own, copied from a migrated template.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import uvicorn.server
from hypothesis import HealthCheck, settings

from stream_server.database.embedded import embedded_postgres
from stream_server.database.migrations import migrate
from stream_server.database.urls import with_schema
from stream_server.web.browser.files import ClientFiles
from tests.support.bouncer import URLOf, bouncer
from tests.support.ports import reserved_port
from tests.support.postgres import BINARIES
from tests.support.surroundings import (
    IS_PLAIN,
    IS_POOLED,
    PASSWORD,
    POOLED_SESSIONS,
    SCHEMA,
    Surroundings,
    opened,
)
from tests.support.templates import IN_MEMORY, ROOM, Templates

Connection: TypeAlias = "asyncpg.Connection[Any]"  # generic in the stubs only

# How long an example takes says something about what else the machine does, and nothing about us.
settings.register_profile(
    "ours", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ours")


@pytest.fixture(scope="session", autouse=True)
def packed_once() -> Iterator[None]:
    """Packing the browser client is most of the work of making an application, and always gives the
    same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientFiles, "from_package", cache(ClientFiles.from_package))
        yield


class _Hasty:
    """asyncio, as uvicorn shall see it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 20)


@pytest.fixture(scope="session", autouse=True)
def servers_end_quickly() -> Iterator[None]:
    """Before it ends, uvicorn waits a tenth of a second for its connections, and as long again
    while there are some: here, it looks every five milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.server, "asyncio", _Hasty())
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a database on a server where databases can be made."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    # Not pytest's own temporary folder: the next session closes that to other users.
    has_room = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > 2 * ROOM
    parent = IN_MEMORY if has_room else None
    folder = Path(tempfile.mkdtemp(prefix="stream-server-test-", dir=parent))
    try:
        options = {
            "max_connections": "200",
            "deadlock_timeout": "50ms",
            "max_wal_size": "256MB",
            "max_prepared_transactions": "5",
        }
        with embedded_postgres(
            folder, settings=options, throwaway=True, binaries=BINARIES
        ) as server:
            yield server.url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def templates(postgres: str) -> Iterator[Templates]:
    """See `surroundings.py`. The decoys are made from what the first migration has made; the second
    one runs among them."""
    unique = uuid4().hex
    first, empty, migrated = (f"{name}_{unique}" for name in ("first", "empty", "migrated"))
    around = Surroundings(postgres)

    async def make() -> None:
        await around.settle()
        await around.administer(f'create database "{first}"')
        await around.furnish(first)
        await migrate(around.url(first))
        decoys = await around.decoys(first)
        await around.administer(f'create database "{empty}"')
        await around.furnish(empty)
        await around.set_up(empty, [text for text, wants_ours in decoys if not wants_ours])
        await around.administer(f'create database "{migrated}" template "{empty}"')
        if IS_PLAIN:
            await around.furnish(migrated)
        await migrate(around.url(migrated))
        await around.set_up(migrated, [text for text, wants_ours in decoys if wants_ours])

    async def unmake() -> None:
        for name in (first, empty, migrated):
            await around.administer(f'drop database if exists "{name}" with (force)')
        await around.leave()

    asyncio.run(make())
    yield Templates(around, empty, migrated)
    asyncio.run(unmake())


@pytest.fixture(scope="session")
def pooled(postgres: str, templates: Templates) -> Iterator[URLOf]:
    """The URL of a database through a PgBouncer with fewer sessions than our connections."""
    sessions = {"default_pool_size": str(POOLED_SESSIONS)}
    with bouncer(postgres, templates.surroundings.role, PASSWORD, settings=sessions) as url_of:

        def pooled(database: str) -> str:
            url = url_of(database)
            return url if IS_PLAIN else with_schema(url, SCHEMA)

        yield pooled


@pytest.fixture(scope="session")
def url_of(request: pytest.FixtureRequest, templates: Templates) -> URLOf:
    """The URL of a database as the service gets it. See `surroundings.py`."""
    pooled: URLOf = request.getfixturevalue("pooled") if IS_POOLED else templates.surroundings.url
    return pooled


@pytest.fixture
async def database_url(templates: Templates, url_of: URLOf) -> AsyncIterator[str]:
    """The URL of a fresh, migrated database, dropped after the test."""
    async with _database(templates.surroundings, templates.migrated, url_of) as url:
        yield url


@pytest.fixture
async def empty_database_url(templates: Templates, url_of: URLOf) -> AsyncIterator[str]:
    """The URL of a fresh database with nothing of ours in it, dropped after the test."""
    async with _database(templates.surroundings, templates.empty, url_of) as url:
        yield url


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    """A connection to the test's database, whose search_path leads to our tables."""
    connection = await opened(database_url)
    yield connection
    connection.terminate()


@pytest.fixture
async def superuser(templates: Templates, database_url: str) -> AsyncIterator[Connection]:
    """A connection of whoever runs the server, whose search_path leads to our tables."""
    database = urlsplit(database_url).path.strip("/")
    connection = await asyncpg.connect(templates.surroundings.admin_url(database))
    await connection.execute(f'set search_path = "{SCHEMA}"')
    yield connection
    connection.terminate()


@pytest.fixture
async def connect(database_url: str) -> AsyncIterator[Callable[[], Awaitable[Connection]]]:
    """Opens as many more of them as a test needs."""
    async with AsyncExitStack() as stack:

        async def connect() -> Connection:
            connection = await opened(database_url)
            stack.callback(connection.terminate)
            return connection

        yield connect


@pytest.fixture
def port() -> Iterator[int]:
    """A port of 127.0.0.1 that is kept for a server that the test starts, or starts again."""
    with reserved_port() as port:
        yield port


# Copying files makes Postgres write what it has not yet written: quick in memory, slow on a disk.
_COPY = "" if "TEST_DATABASE_URL" in os.environ else "strategy file_copy"


@asynccontextmanager
async def _database(around: Surroundings, template: str, url_of: URLOf) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex}"
    owner = f"owner {around.role}" if IS_PLAIN else ""
    await around.administer(f'create database "{name}" {owner} template "{template}" {_COPY}')
    try:
        with pytest.MonkeyPatch.context() as patch:
            if IS_POOLED:
                patch.setenv("LISTEN_DATABASE_URL", around.url(name))
            yield url_of(name)
    finally:
        await around.administer(f'drop database "{name}" with (force)')
