"""The system's Chromium, driven by Playwright, on the real application.

The browser lives as long as the session, so everything here runs on the session's event loop; each
test has a database, a server and a browser context of its own.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.support.browsers import options, path
from tests.support.ports import reserved_port
from tests.support.site import Site, Stock, recorded
from tests.support.surroundings import opened


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser" in item.path.as_posix():
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all. It may keep pages in its back/forward cache, as people's do."""
    executable = path()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable,
            args=options(),
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        await browser.close()


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Settings of the test's server; a module may bring others."""
    return {}


@pytest_asyncio.fixture(loop_scope="session")
async def live_server(database_url: str, overrides: dict[str, Any]) -> AsyncIterator[Site]:
    """The application, ready, with pages beside it. It can be stopped and started."""
    with reserved_port() as port:
        site = Site(database_url, port, **overrides)
        await site.start()
        yield site
        await site.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def stock(database_url: str) -> AsyncIterator[Stock]:
    """Changes the test's stock, past the server."""
    connection = await opened(database_url)
    yield Stock(connection)
    connection.terminate()


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser, live_server: Site) -> AsyncIterator[BrowserContext]:
    """A browser context: tabs that share what tabs of one person share."""
    async with await browser.new_context() as context:
        yield context


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> AsyncIterator[Page]:
    """A tab. At the end, nothing may have gone wrong in it unseen."""
    async with recorded(context) as complaints:
        page = await context.new_page()
        yield page
        assert not [each for each in complaints if "ERR_" not in each and "status of" not in each]
