"""Streams are written in several ways, on several event loops: a test that asks for `server` runs
once for each."""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.support.servers import DIRECT, PORTABLE, Server, serving

LoopFactory = Callable[[], AbstractEventLoop]


def direct_on_uvloop() -> AbstractEventLoop:
    return uvloop.new_event_loop()


def direct_on_asyncio() -> AbstractEventLoop:
    return asyncio.new_event_loop()


def portable() -> AbstractEventLoop:
    return asyncio.new_event_loop()


WAYS: Mapping[str, LoopFactory] = {
    "direct-uvloop": direct_on_uvloop,
    "direct-asyncio": direct_on_asyncio,
    "portable": portable,
}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    names = getattr(item, "fixturenames", None) or item._fixtureinfo.names_closure  # type: ignore[attr-defined]  # while it collects, an item has no names yet
    if not {"http", "server"} & set(names):
        return {"asyncio": asyncio.new_event_loop}
    marker = item.get_closest_marker("ways")
    return {name: WAYS[name] for name in (marker.args if marker else WAYS)}


@pytest.fixture
def http(request: pytest.FixtureRequest) -> str:
    """uvicorn's `http` setting for the test's way of writing."""
    factory = request.node.callspec.params["_asyncio_loop_factory"]
    return PORTABLE if factory is portable else DIRECT


@pytest.fixture
async def server(
    request: pytest.FixtureRequest, database_url: str, http: str
) -> AsyncIterator[Server]:
    """The application on the test's database; settings by `@pytest.mark.settings(…)`."""
    marker = request.node.get_closest_marker("settings")
    async with serving(database_url, http=http, **(marker.kwargs if marker else {})) as server:
        yield server
