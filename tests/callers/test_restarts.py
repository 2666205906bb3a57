"""A short form of scripts/restarts: no plain EventSource gives up because the server restarts."""

from typing import Any, TypeAlias

import asyncpg

from tests.support.callers.restarts import fill, run
from tests.support.npm import installed
from tests.support.proxies import program

Connection: TypeAlias = "asyncpg.Connection[Any]"
SEED = 11


async def test_no_stream_is_lost(database_url: str, connection: Connection) -> None:
    program("node")
    for package in ("eventsource", "undici"):
        installed(package)
    await fill(connection, 100)
    hasty = {"STREAM_RETRY_MS": "200", "STREAM_DRAIN_SECONDS": "0.2"}
    lost = await run(database_url, streams=6, restarts=2, longest=1.5, seed=SEED, settings=hasty)
    assert not any(lost.values()), (lost, SEED)
