"""The shop's pages, with the sample catalogue and the demo's payment page."""

from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from stream_server.database.pool import Pool
from stream_server.inventory.imports.models import ImportRequest
from stream_server.inventory.imports.run import import_catalogue
from stream_server.web.pages.demo_payments import demo_payment_routes
from tests.support.shoppers import SECRET, Someone
from tests.support.site import Site, recorded

# Answers with an error, connections that are closed, and Playwright's clock, which minds that the
# client clears a timer in both ways that there are.
EXPECTED = ("status of", "ERR_", "Cannot clear timer")


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"payment_url": "/demo/pay", "stripe_webhook_secret": SECRET}


@pytest_asyncio.fixture(loop_scope="session")
async def shop(live_server: Site, database_url: str) -> AsyncIterator[Site]:
    """The server, with the sample catalogue and the page that pays."""
    assert live_server.app is not None
    live_server.app.router.routes.extend(demo_payment_routes())
    sample = files("stream_server") / "sample" / "catalogue.json"
    async with Pool(database_url, max_size=1) as pool:
        await import_catalogue(
            pool, sample.read_bytes(), ImportRequest(actor="test", reason="sample")
        )
    yield live_server


@pytest_asyncio.fixture(loop_scope="session")
async def someone(browser: Browser, shop: Site) -> AsyncIterator[Someone]:
    """Opens a page of the shop in a browser of its own; nothing may go wrong in it unseen, and
    nothing may break the pages' policy."""
    contexts = []
    heard = []

    async def open_page(path: str, **options: Any) -> Page:
        context = await browser.new_context(**{"base_url": shop.url, "locale": "en-US"} | options)
        complaints = recorded(context)
        heard.append((complaints, await complaints.__aenter__()))
        contexts.append(context)
        page = await context.new_page()
        await page.goto(path)
        return page

    yield open_page
    for context in contexts:
        await context.close()
    for complaints, said in heard:
        await complaints.__aexit__(None, None, None)
        assert not [each for each in said if not any(known in each for known in EXPECTED)]


@pytest_asyncio.fixture(loop_scope="session")
async def cart_of(someone: Someone) -> Callable[..., Awaitable[Page]]:
    """A page of somebody with a cart: ids and quantities, of products without variants."""

    async def with_cart(path: str, given: dict[str, int], **options: Any) -> Page:
        page = await someone("/cart", **options)
        lines = [
            {"productId": each, "variantId": None, "quantity": quantity, "name": each}
            for each, quantity in given.items()
        ]
        await page.evaluate("x => localStorage.setItem('shop-cart', JSON.stringify(x))", lines)
        await page.goto(path)
        return page

    return with_cart


@pytest_asyncio.fixture(loop_scope="session")
async def checkout(cart_of: Callable[..., Awaitable[Page]]) -> Callable[..., Awaitable[Page]]:
    """The checkout of somebody whose cart is held."""

    async def held(given: dict[str, int], **options: Any) -> Page:
        page = await cart_of("/checkout", given, **options)
        await expect(page.locator("[data-panel=held]")).to_be_visible()
        return page

    return held
