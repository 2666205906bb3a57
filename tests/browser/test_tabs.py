"""Several tabs of a shop: one of them holds the stream for all."""

import asyncio
from collections.abc import Sequence

from playwright.async_api import BrowserContext, Page

from tests.support.site import Site, Stock, indicators, is_in_state, shows

STATUS = "<connection-status></connection-status>"


async def tabs(context: BrowserContext, urls: Sequence[str]) -> list[Page]:
    """A tab each, the first of which leads."""
    pages = []
    for url in urls:
        page = await context.new_page()
        await page.goto(url)
        await is_in_state(page, "live")
        pages.append(page)
    return pages


async def all_show(pages: Sequence[Page], product_id: str, text: str) -> None:
    selector = f"[product-id={product_id}] stock-indicator"
    await asyncio.gather(*(shows(page, selector, text) for page in pages))


async def test_six_tabs_of_the_listing_are_one_stream_and_survive_their_leader(
    live_server: Site, stock: Stock, context: BrowserContext
) -> None:
    ids = await stock.add(*(f"unit-{number}" for number in range(24)), most=50)
    url = live_server.show("listing.html", indicators(ids) + STATUS)
    pages = await tabs(context, [url] * 6)
    await all_show(pages, "unit-7", "50 available")
    assert live_server.open_streams == 1
    await stock.set("unit-7", 9)
    await all_show(pages, "unit-7", "Only 9 remaining!")
    for number in range(24):
        await stock.set(f"unit-{number}", 40)
    await pages[0].close()
    await stock.set("unit-3", 0)
    await live_server.streams(1, within=5)
    await asyncio.gather(*(is_in_state(page, "live") for page in pages[1:]))
    await all_show(pages[1:], "unit-3", "Sold Out")
    await all_show(pages[1:], "unit-23", "40 available")
    for page in pages[1:]:
        await page.close()
    await live_server.streams(0)


async def test_tabs_that_show_different_products_share_a_stream_too(
    live_server: Site, stock: Stock, context: BrowserContext
) -> None:
    await stock.add("cube", "lamp", "desk", most=50)
    urls = [
        live_server.show(f"{each}.html", indicators([each]) + STATUS)
        for each in ("cube", "lamp", "desk")
    ]
    pages = await tabs(context, urls)
    for page, each in zip(pages, ("cube", "lamp", "desk"), strict=True):
        await all_show([page], each, "50 available")
    await live_server.streams(1)
    for each in ("cube", "lamp", "desk"):
        await stock.set(each, 5)
    for page, each in zip(pages, ("cube", "lamp", "desk"), strict=True):
        await all_show([page], each, "Only 5 remaining!")
    await pages[0].close()
    await stock.set("desk", 3)
    await all_show(pages[2:], "desk", "Only 3 remaining!")
    await live_server.streams(1)


async def test_a_leader_that_does_not_answer_is_replaced(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """Its tab sleeps without having let go of the lock."""
    await stock.add("cube", most=50)
    blank = live_server.add("blank.html", "<title>asleep</title>")
    sleeper = await page.context.new_page()
    await sleeper.goto(blank)
    await sleeper.evaluate(
        """base => {
            const name = `stream-server 1 ${base}/api/inventory/stream`;
            navigator.locks.request(name, () => new Promise(() => {})).catch(() => {});
        }""",
        live_server.url,
    )
    await page.bring_to_front()
    await page.clock.install()
    await page.goto(live_server.show("page.html", indicators(["cube"]) + STATUS))
    await page.clock.run_for(40_000)
    assert live_server.open_streams == 0
    await page.clock.run_for(25_000)
    await is_in_state(page, "live")
    await all_show([page], "cube", "50 available")


async def test_without_locks_or_channels_each_tab_has_a_stream_of_its_own(
    live_server: Site, stock: Stock, context: BrowserContext
) -> None:
    await stock.add("cube", most=50)
    await context.add_init_script("Object.defineProperty(navigator, 'locks', {value: undefined})")
    url = live_server.show("page.html", indicators(["cube"]) + STATUS)
    pages = await tabs(context, [url] * 2)
    await all_show(pages, "cube", "50 available")
    assert live_server.open_streams == 2


async def test_a_follower_is_stale_when_its_leader_is(
    live_server: Site, stock: Stock, context: BrowserContext
) -> None:
    await stock.add("cube", most=50)
    await context.clock.install()
    url = live_server.show("page.html", indicators(["cube"]) + STATUS)
    pages = await tabs(context, [url] * 2)
    await live_server.stop()
    for page in pages:
        await page.clock.run_for(31_000)
        await is_in_state(page, "stale")
    await stock.set("cube", 4)
    await live_server.start()
    for _ in range(60):
        for page in pages:
            await page.clock.run_for(1000)
        if await pages[1].locator("connection-status").get_attribute("state") == "live":
            break
    await all_show(pages, "cube", "Only 4 remaining!")
    await live_server.streams(1)
