"""Many products and many changes: no long task, no layout shift, one stream."""

import asyncio
import json

from playwright.async_api import Browser, Page, Request, Response

from tests.support.site import Site, Stock, busy, indicators, is_in_state, shows

STATUS = "<connection-status></connection-status>"

OBSERVE = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.shift += entry.value;
}).observe({ type: 'layout-shift' });
"""
CHANGE = """
update products p set sold_quantity = sold_quantity + 1
  from unnest($1::text[]) changed where p.id = changed
"""


async def test_200_cards_and_100_changes_a_second_make_no_long_task_and_no_layout_shift(
    live_server: Site, stock: Stock, page: Page, browser: Browser
) -> None:
    """Bar: no task works for 50 ms (that is what a long task is), shift 0, for five seconds."""
    ids = await stock.add(*(f"unit-{number:03}" for number in range(200)), most=100)
    live_server.add("cards.css", "article > * { display: block }")
    head = '<link rel="stylesheet" href="/pages/cards.css">'
    await page.goto(live_server.show("page.html", indicators(ids) + STATUS, head=head))
    await shows(page, "[product-id=unit-199] stock-indicator", "100 available")
    await page.evaluate(OBSERVE)
    await page.evaluate(
        """() => {
            window.changes = 0;
            const count = () => window.changes++;
            for (const each of document.querySelectorAll('stock-indicator')) {
                new MutationObserver(count)
                    .observe(each.shadowRoot, { subtree: true, childList: true });
            }
        }"""
    )
    loop = asyncio.get_running_loop()
    async with busy(browser, page) as tasks:
        begun = loop.time()
        for turn in range(50):
            some = [ids[(turn * 10 + each) % 200] for each in range(10)]
            await stock.connection.execute(CHANGE, some)
            await asyncio.sleep(max(0.0, begun + (turn + 1) / 10 - loop.time()))
        seconds = loop.time() - begun
        await shows(page, "[product-id=unit-099] stock-indicator", "97 available")
    changes = await page.evaluate("changes")
    shift = await page.evaluate("shift")
    assert changes / seconds > 80, f"{changes} changes in {seconds:.1f} s are no load"
    assert len(tasks) > 50
    assert max(tasks) <= 50
    assert shift == 0


async def test_a_thousand_products_on_one_page_are_one_stream(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """The server takes 500 at most; the page does not notice."""
    ids = await stock.add(*(f"unit-{number:04}" for number in range(1200)), most=100)
    shown = ids[:1000]
    asked: list[int] = []

    def note(request: Request) -> None:
        if "batch" in request.url:
            asked.append(len(json.loads(request.post_data or "")["productIds"]))

    page.on("request", note)
    await page.goto(live_server.show("page.html", indicators(shown) + STATUS))
    await is_in_state(page, "live")
    await shows(page, "[product-id=unit-0000] stock-indicator", "100 available")
    await shows(page, "[product-id=unit-0999] stock-indicator", "100 available")
    assert asked == [500, 500]
    assert live_server.open_streams == 1
    await stock.set("unit-1100", 5)  # nobody shows it
    await stock.set("unit-0000", 5)
    await stock.set("unit-0999", 6)
    await shows(page, "[product-id=unit-0000] stock-indicator", "Only 5 remaining!")
    await shows(page, "[product-id=unit-0999] stock-indicator", "Only 6 remaining!")


async def test_a_thousand_products_are_polled_in_two_parts(
    live_server: Site, stock: Stock, page: Page
) -> None:
    ids = await stock.add(*(f"unit-{number:04}" for number in range(1000)), most=100)
    await page.add_init_script("delete window.EventSource")
    await page.clock.install()
    await page.goto(live_server.show("page.html", indicators(ids) + STATUS))
    await is_in_state(page, "polling")
    await shows(page, "[product-id=unit-0999] stock-indicator", "100 available")
    await stock.set("unit-0999", 6)
    await live_server.knows("unit-0999", 6)
    answers: list[Response] = []
    page.on("response", lambda got: answers.append(got) if "batch" in got.url else None)
    await page.clock.run_for(12_000)
    await shows(page, "[product-id=unit-0999] stock-indicator", "Only 6 remaining!")
    assert ["unchanged" in await each.json() for each in answers] == [True, False]
