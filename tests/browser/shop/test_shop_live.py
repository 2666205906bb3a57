"""Two people in the shop: what one does, the other sees, without reloading."""

import asyncio
import re
import time

from playwright.async_api import Browser, Page, Route, expect

from tests.support.shoppers import Someone
from tests.support.site import Site, Stock, busy, shows

BADGE = "main .buy stock-indicator"


async def buy(page: Page, quantity: int = 1) -> None:
    """All the way, by clicking, to the thank-you page."""
    await page.get_by_role("spinbutton", name="Quantity:").fill(str(quantity))
    await page.get_by_role("button", name="Add to Cart").click()
    await expect(page.locator("[data-cart-count]")).to_have_text(str(quantity))
    await page.goto("/checkout")
    await page.get_by_role("link", name="Pay $").click()
    await page.get_by_role("button", name="Pay $").click()
    await expect(page.get_by_role("heading", name="Thank you!")).to_be_visible()


async def test_one_buys_and_the_other_sees_it_within_a_second(
    shop: Site, someone: Someone, stock: Stock
) -> None:
    """Number, badge and button; at the last unit, Sold Out; restocked by SQL, back again."""
    await stock.set("Insert-Planter-8x8", 12)
    watching = await someone("/products/Insert-Planter-8x8")
    await shows(watching, BADGE, "12 items available")
    await watching.evaluate("window.isTheSamePage = true")
    buying = await someone("/products/Insert-Planter-8x8")
    await buy(buying, 2)
    await shows(watching, BADGE, "Only 10 remaining!", within=1)
    await expect(watching.locator(BADGE)).to_have_attribute("state", "warning")
    await expect(watching.get_by_text("Only 10 units remaining")).to_be_visible()

    await buying.goto("/products/Insert-Planter-8x8")
    await buy(buying, 10)
    await shows(watching, BADGE, "Sold Out", within=1)
    button = watching.get_by_role("button", name="Sold Out")
    await expect(button).to_be_disabled()
    await expect(watching.get_by_role("spinbutton", name="Quantity:")).to_be_disabled()
    await expect(watching.get_by_text("In stock instead")).to_be_visible()

    await stock.connection.execute(
        "update products set max_quantity = max_quantity + 3 where id = 'Insert-Planter-8x8'"
    )
    await shows(watching, BADGE, "Only 3 remaining!", within=1)
    await expect(watching.get_by_role("button", name="Add to Cart")).to_be_enabled()
    assert await watching.evaluate("window.isTheSamePage")


async def test_a_card_follows_and_says_that_it_did(
    shop: Site, someone: Someone, stock: Stock
) -> None:
    page = await someone("/products")
    card = page.locator("article[product-id='Hardware-Castors-4']")
    await shows(page, "[product-id='Hardware-Castors-4'] stock-indicator", "43 available")
    await expect(card.locator("sold-out-badge")).to_be_hidden()
    await stock.price("Hardware-Castors-4", 3900)
    await shows(page, "[product-id='Hardware-Castors-4'] live-price", "$39.00")
    await stock.set("Hardware-Castors-4", 0)
    await expect(card.get_by_text("Live Update")).to_be_visible()
    await expect(card.locator("sold-out-badge")).to_be_visible()
    await expect(page.get_by_text("Castors, Set of 4: Sold Out")).to_be_visible()


async def test_a_variant_is_chosen_and_all_of_the_page_is_about_it(
    shop: Site, someone: Someone
) -> None:
    page = await someone("/products/Unit-8x8x16")
    select = page.get_by_label("Select Color:")
    await shows(page, ".buy live-price", "$74.00")
    await select.select_option(label="Oak")
    await shows(page, ".buy live-price", "$89.00")
    await shows(page, BADGE, "Only 6 remaining!")
    await expect(page.get_by_text("Only 6 units remaining")).to_be_visible()
    picture = page.locator("[data-product-picture]")
    assert "finish=Oak" in str(await picture.get_attribute("src"))
    await page.get_by_role("button", name="Add to Cart").click()
    await expect(page.get_by_text("Unit 8×8×16 added to cart").first).to_be_visible()
    await page.get_by_role("link", name="Cart").click()
    line = page.locator("li.line")
    await expect(line).to_contain_text("Unit 8×8×16 Oak")
    await expect(line.locator(".amount")).to_have_text("$89.00")


async def test_one_order_may_not_have_more_than_its_limit(shop: Site, someone: Someone) -> None:
    page = await someone("/products/Unit-8x8x8-Founder")
    await page.get_by_role("spinbutton", name="Quantity:").fill("3")
    await page.get_by_role("button", name="Add to Cart").click()
    field = page.get_by_role("spinbutton", name="Quantity:")
    assert await field.evaluate("each => each.validity.rangeOverflow")  # the browser says it
    await expect(page.locator("[data-cart-count]")).to_have_text("0")


async def test_the_cart_says_what_happened_to_it_in_the_meantime(
    shop: Site, cart_of: Someone, stock: Stock
) -> None:
    page = await cart_of("/cart", {"Set-Starter": 4, "Insert-Shelf-8x8": 1})
    await expect(page.locator("[data-total]")).to_have_text("$570.00")
    await stock.set("Set-Starter", 3)
    await expect(page.get_by_text("Only 3 left")).to_be_visible()
    await stock.price("Insert-Shelf-8x8", 2000)
    await expect(page.locator("[data-total]")).to_have_text("$576.00")
    await page.get_by_label("Quantity of Starter Set").fill("2")
    await page.get_by_label("Quantity of Starter Set").press("Enter")
    await page.locator("h1").click()
    await expect(page.locator("[data-total]")).to_have_text("$298.00")
    await page.get_by_role("button", name="Remove Shelf 8×8").click()
    await expect(page.locator("[data-cart-count]")).to_have_text("2")
    await page.get_by_role("button", name="Remove Starter Set").click()
    await expect(page.get_by_text("Your cart is empty.")).to_be_visible()


async def test_a_cart_is_the_same_in_all_tabs(shop: Site, someone: Someone) -> None:
    page = await someone("/products/Hardware-Joint-4")
    other = await page.context.new_page()
    await other.goto("/cart")
    await expect(other.get_by_text("Your cart is empty.")).to_be_visible()
    await page.get_by_role("button", name="Add to Cart").click()
    await expect(other.locator("li.line")).to_contain_text("Joint, Pack of 4")


async def test_a_page_goes_on_from_where_it_was_made(
    shop: Site, someone: Someone, stock: Stock
) -> None:
    """What changes between the page and its stream arrives; the rest is not sent again. A page
    that was made in another history gets everything."""
    await stock.set("Insert-Planter-8x8", 12)
    page = await someone("/cart")
    asked: list[str] = []

    async def change_first(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            await stock.set("Insert-Planter-8x8", 11)
            await shop.knows("Insert-Planter-8x8", 11)
        await route.continue_()

    await page.route("**/api/inventory/stream?**", change_first)
    await page.goto("/products/Insert-Planter-8x8")
    await shows(page, BADGE, "11 items available")
    assert "lastEventId=" in asked[0]
    await stock.set("Insert-Planter-8x8", 9)
    await shows(page, BADGE, "Only 9 remaining!")
    assert len(asked) == 1

    async def from_elsewhere(route: Route) -> None:
        answer = await route.fetch()
        text = await answer.text()
        text = re.sub(r'"position":"[0-9a-f]+', '"position":"abcdef', text)
        old = text.replace('"version":', '"version":9')
        await route.fulfill(response=answer, body=old)

    await page.route("**/products/Insert-Planter-8x8", from_elsewhere)
    await page.goto("/products/Insert-Planter-8x8")
    await shows(page, BADGE, "Only 9 remaining!")
    await stock.set("Insert-Planter-8x8", 8)
    await shows(page, BADGE, "Only 8 remaining!")


OBSERVE = """
  window.shift = 0;
  new PerformanceObserver((list) => {
    for (const {value} of list.getEntries()) window.shift += value;
  }).observe({type: 'layout-shift', buffered: true});
"""


async def test_200_cards_and_100_changes_a_second_hold_up_nothing(
    shop: Site, someone: Someone, stock: Stock, browser: Browser
) -> None:
    """No task works for 50 ms while numbers change, and nothing moves, ever."""
    ids = [f"many-{number:03}" for number in range(200)]
    await stock.add(*ids, most=500)
    page = await someone("/products?q=many&limit=200", viewport={"width": 1280, "height": 900})
    await expect(page.locator(".card")).to_have_count(200)
    await shows(page, "[product-id='many-199'] stock-indicator", "500 available")
    await page.evaluate(OBSERVE)
    async with busy(browser, page) as tasks:
        began = time.monotonic()
        for turn in range(150):
            await stock.connection.execute(
                "update products set sold_quantity = (sold_quantity + $2) % 500 where id = $1",
                ids[turn * 7 % 199],
                1 if turn % 3 else 170,
            )
            # the rate is what is tested: 100 a second
            await asyncio.sleep(max(0, began + (turn + 1) / 100 - time.monotonic()))
        await stock.set("many-199", 7)
        await shows(page, "[product-id='many-199'] stock-indicator", "Only 7 remaining!")
    assert len(tasks) > 15
    assert max(tasks) <= 50
    assert await page.evaluate("window.shift") == 0


async def test_a_page_that_was_live_says_at_once_that_it_is_not(
    shop: Site, someone: Someone
) -> None:
    """S9, S11: beside the number, not half a minute later, and without moving anything."""
    page = await someone("/products/Set-Starter")
    status = page.locator(".stock connection-status")
    await expect(status).to_have_text("Live")
    await expect(status).to_be_in_viewport()
    await page.evaluate(OBSERVE)
    await shop.stop()
    await expect(status).to_have_text("Connecting", timeout=3_000)
    await expect(status).to_be_visible()
    await shop.start()
    await expect(status).to_have_text("Live", timeout=30_000)
    assert await page.evaluate("window.shift") == 0
