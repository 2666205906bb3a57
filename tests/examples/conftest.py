"""A server as the examples want one, and a browser that looks at their pages."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeAlias

import asyncpg
import pytest
from playwright.async_api import Page, async_playwright

from tests.support.browsers import options, path
from tests.support.ports import reserved_port
from tests.support.site import Site, Stock, recorded

Connection: TypeAlias = "asyncpg.Connection[Any]"


@pytest.fixture
def own_port() -> Iterator[int]:
    """Where an example itself serves; its README says 8080."""
    with reserved_port() as port:
        yield port


@pytest.fixture
def stock(connection: Connection) -> Stock:
    """Changes the test's stock, past the server."""
    return Stock(connection)


@pytest.fixture
async def site(database_url: str, port: int, own_port: int, stock: Stock) -> AsyncIterator[Site]:
    """The server, on the stock that a module may have added. The example's pages may read it, and
    it can be stopped and started."""
    pages = f"http://127.0.0.1:{own_port}"
    site = Site(database_url, port, allowed_origins=pages, stream_retry_ms=200)
    await site.start()
    yield site
    await site.stop()


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A tab of a browser of its own. At the end, nothing may have gone wrong in it unseen."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path(), args=options())
        context = await browser.new_context()
        async with recorded(context) as complaints:
            yield await context.new_page()
            assert not [each for each in complaints if "favicon" not in each and "404" not in each]
        await browser.close()
