"""Whoever comes: by keyboard, with a screen reader, without JavaScript, in the dark, on a slow line
— and whatever stands in the catalogue."""

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.support.shoppers import Someone
from tests.support.site import TOP, Site, Stock, shows

Checkout = Callable[..., Awaitable[Page]]
AXE = TOP / "node_modules" / "axe-core" / "axe.min.js"
RUN_AXE = """
async () => {
  await Promise.all(document.getAnimations().map((each) => each.finished));
  const {violations} = await axe.run({resultTypes: ['violations']});
  return violations.flatMap(({id, nodes}) => nodes.map(({html, any}) => [
    id, html.slice(0, 200), any[0]?.message ?? '']));
}
"""


def axe() -> Path:
    if not AXE.exists():
        message = "axe-core is not here. Run: npm install"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return AXE


async def assert_accessible(page: Page) -> None:
    await page.evaluate(axe().read_text())
    found = await page.evaluate(RUN_AXE)
    assert not found, page.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_on_any_page(
    shop: Site, someone: Someone, cart_of: Checkout, checkout: Checkout, stock: Stock, scheme: str
) -> None:
    look: Mapping[str, Any] = {"color_scheme": scheme, "reduced_motion": "reduce"}
    page = await someone("/", **look)
    for path in (
        "/",
        "/products?q=felt",
        "/products?q=nothing-like-this",
        "/products/Unit-8x8x8?variantId=Unit-8x8x8-walnut",
        "/products/Unit-8x8x8-Founder",
        "/products/Set-Desk",
        "/products/nothing",
        "/cart",
        "/checkout",
        "/checkout?declined",
    ):
        await page.goto(path)
        await expect(page.locator("add-to-cart:not(:defined)")).to_have_count(0)
        await assert_accessible(page)
    await assert_accessible(await cart_of("/cart", {"Set-Starter": 99, "Set-Desk": 1}, **look))
    page = await cart_of("/checkout", {"Set-Starter": 1, "Set-Desk": 1}, **look)
    await expect(page.locator("[data-panel=short]")).to_be_visible()
    await assert_accessible(page)
    page = await checkout({"Set-Starter": 1}, **look)
    await assert_accessible(page)
    await page.get_by_role("link", name="Pay $").click()
    await assert_accessible(page)
    await page.get_by_role("button", name="Pay $").click()
    await expect(page.get_by_role("heading", name="Thank you!")).to_be_visible()
    await assert_accessible(page)


async def tab_to(page: Page, selector: str) -> None:
    """As somebody would without a mouse; it must be seen that the focus is there."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await page.evaluate("s => document.activeElement.matches(s)", selector):
            outline = await page.evaluate(
                "getComputedStyle(document.activeElement).outlineStyle + "
                "getComputedStyle(document.activeElement, '::after').outlineStyle"
            )
            assert outline != "nonenone", selector
            return
    raise AssertionError(f"{selector} is not reached by Tab")


async def test_the_whole_purchase_works_by_keyboard(shop: Site, someone: Someone) -> None:
    page = await someone("/")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await tab_to(page, "#q")
    await page.keyboard.type("bottle")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/products?q=bottle*")
    await tab_to(page, "[product-id='Insert-Bottle-8x8'] a")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/products/Insert-Bottle-8x8")
    await shows(page, ".buy stock-indicator", "Only 4 remaining!")
    await tab_to(page, "[name=quantity]")
    await page.keyboard.press("ArrowUp")
    await tab_to(page, "add-to-cart button")
    await page.keyboard.press("Enter")
    await expect(page.locator("[data-cart-count]")).to_have_text("2")
    await page.keyboard.press("Shift+Tab")
    await page.evaluate("document.body.tabIndex = -1; document.body.focus()")
    await tab_to(page, ".to-cart")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/cart")
    await tab_to(page, "[data-checkout]")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="These are yours for now")).to_be_focused()
    await tab_to(page, "[data-extend]")
    await page.keyboard.press("Space")
    await expect(page.locator("[data-pay]")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/demo/pay?*")
    await tab_to(page, "button[value=pay]")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Thank you!")).to_be_visible()


async def test_without_javascript_the_shop_can_be_read_and_searched(
    shop: Site, someone: Someone, stock: Stock
) -> None:
    page = await someone("/", java_script_enabled=False)
    await page.get_by_label("Search products").fill("cork")
    await page.get_by_role("button", name="Search").click()
    await expect(page.locator(".card")).to_have_count(1)
    await page.get_by_role("link", name="Materials").click()
    await page.get_by_role("link", name="All", exact=True).click()
    await page.goto("/products?category=Sets")
    await expect(page.locator(".card")).to_have_count(3)
    desk = page.locator("[product-id='Set-Desk']")
    await expect(desk.locator(".stock")).to_have_text("Sold Out")
    await expect(desk.locator("sold-out-badge")).to_be_visible()
    case = page.locator("[product-id='Set-Bookcase-3x4']")
    await expect(case.locator(".stock")).to_have_text("Only 3 remaining!")
    await expect(case.locator("sold-out-badge")).to_be_hidden()
    await page.get_by_role("link", name="Starter Set").click()
    await expect(page.locator(".stock").first).to_have_text("53 items available")
    await expect(page.locator(".price").first).to_have_text("$139.00")
    await page.goto("/products/Unit-8x8x8?variantId=Unit-8x8x8-walnut")
    await expect(page.get_by_text("Only 7 units remaining")).to_be_visible()
    await page.goto("/products/Unit-8x16x16?variantId=Unit-8x16x16-oak")
    await expect(page.locator("option:checked")).to_have_text("Oak - Sold Out")
    await expect(page.get_by_role("button", name="Sold Out")).to_be_disabled()
    for path in ("/cart", "/checkout"):
        await page.goto(path)
        notice = page.locator("main noscript")
        await expect(notice).to_be_visible()
        assert "needs JavaScript" in str(await notice.text_content())
    await page.goto("/products/Unit-8x8x8-Founder")
    await expect(page.get_by_text("Limited Edition", exact=True)).to_be_visible()


async def test_the_listing_is_light_and_does_not_shift(shop: Site, someone: Someone) -> None:
    """Its own transfer is under 150 KB, all pictures scrolled into view, and nothing moves."""
    page = await someone("/cart")
    network = await page.context.new_cdp_session(page)
    await network.send("Network.enable")
    await network.send("Network.setCacheDisabled", {"cacheDisabled": True})
    received: list[float] = []
    network.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    await page.goto("/products")
    await shows(page, "[product-id='Set-Starter'] stock-indicator", "53 available")
    for card in await page.locator(".card img").all():
        await card.scroll_into_view_if_needed()
        await card.evaluate("image => image.decode()")
    assert 20_000 < sum(received) < 150_000
    shift = await page.evaluate(
        """() => new Promise((resolve) => {
             let total = 0;
             new PerformanceObserver((list) => {
               for (const {value} of list.getEntries()) total += value;
             }).observe({type: 'layout-shift', buffered: true});
             requestAnimationFrame(() => setTimeout(() => resolve(total)));
           })"""
    )
    assert shift < 0.001


HOSTILE = "<img src=x onerror=alert(1)>\"'&amp; {{ 7*7 }} 🪑"
HOSTILE_IDS = (
    "a/b c%2Fd?e#f",
    "quote\"s'<script>alert(1)</script>",
    "🪑 chaise longue",
    "100% \\ ; javascript:alert(1)",
    "{{ config }}",
)


@pytest.mark.parametrize("product_id", HOSTILE_IDS)
async def test_whatever_an_id_is_it_has_a_page_and_a_picture(
    shop: Site, someone: Someone, stock: Stock, product_id: str
) -> None:
    await stock.add(product_id, most=5, name=HOSTILE)
    page = await someone("/products?q=onerror")
    await expect(page.locator("main h2")).to_have_text(HOSTILE)
    await page.locator(".card a").click()
    await expect(page.locator("h1")).to_have_text(HOSTILE)
    await shows(page, ".buy stock-indicator", "Only 5 remaining!")
    assert await page.locator("[data-product-picture]").evaluate("x => x.naturalWidth") > 0


async def test_whatever_stands_in_the_catalogue_is_text(
    shop: Site, someone: Someone, stock: Stock
) -> None:
    """From the card through the cart to the thank-you page; the policy has nothing to stop."""
    product_id = "a/b \"c'<script>alert(1)</script>%2F🪑"
    await stock.add(product_id, most=50, name=HOSTILE, variants={f"{product_id}-{HOSTILE}": 5})
    await stock.connection.execute(
        "update products set description = $2, category = $2 where id = $1", product_id, HOSTILE
    )
    page = await someone("/products?q=onerror")
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    await page.get_by_role("link", name=HOSTILE).last.click()
    await expect(page.locator(".about")).to_have_text(HOSTILE)
    await expect(page.locator("option")).to_have_text(HOSTILE)
    await shows(page, ".buy stock-indicator", "Only 5 remaining!")
    await page.get_by_role("button", name="Add to Cart").click()
    await expect(page.locator("[data-cart-count]")).to_have_text("1")
    await page.goto("/cart")
    await expect(page.locator("li.line")).to_contain_text(HOSTILE)
    await page.get_by_role("link", name="Check out").click()
    await expect(page.locator("[data-panel=held] li.line")).to_contain_text(HOSTILE)
    await page.get_by_role("link", name="Pay $").click()
    await expect(page.locator("li.line")).to_contain_text(HOSTILE)
    await page.get_by_role("button", name="Pay $").click()
    await expect(page.get_by_role("heading", name="Thank you!")).to_be_visible()
    await expect(page.locator("li.line")).to_contain_text(HOSTILE)


async def test_a_search_is_text_too(shop: Site, someone: Someone) -> None:
    page = await someone("/products?q=%3Cscript%3Ealert(1)%3C/script%3E%22")
    await expect(page.locator("h1")).to_have_text('Results for “<script>alert(1)</script>"”')
    await expect(page.get_by_label("Search products")).to_have_value('<script>alert(1)</script>"')


async def test_what_somebody_left_in_the_storage_does_not_break_the_cart(
    shop: Site, someone: Someone
) -> None:
    page = await someone("/cart")
    for kept in ("nonsense", "{}", '[{"productId": 1}, null, {"quantity": -1}]'):
        await page.evaluate("kept => localStorage.setItem('shop-cart', kept)", kept)
        await page.reload()
        await expect(page.get_by_text("Your cart is empty.")).to_be_visible()


@pytest.mark.parametrize("width", [320, 800])
async def test_no_page_is_wider_than_the_screen(
    shop: Site, someone: Someone, stock: Stock, width: int
) -> None:
    await stock.add("Wide" * 40, name="Wide" * 60)
    page = await someone("/", viewport={"width": width, "height": 800})
    for path in ("/", "/products?limit=200", f"/products/{'Wide' * 40}", "/cart", "/checkout"):
        await page.goto(path)
        wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, path


async def test_no_page_asks_another_site_for_anything(shop: Site, someone: Someone) -> None:
    page = await someone("/")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for path in ("/", "/products/Unit-8x8x8", "/cart", "/checkout"):
        await page.goto(path)
    assert asked
    assert not [url for url in asked if not re.match(re.escape(shop.url), url)]
