"""Browsers that lack an API, or whose API throws: the page goes on alone."""

import pytest
from playwright.async_api import Browser, expect

from tests.support.shoppers import Someone
from tests.support.site import Site

THROWS = "() => { throw new DOMException('insecure', 'SecurityError') }"
QUOTA = """
    const set = Storage.prototype.setItem;
    Storage.prototype.setItem = function (key, value) {
        if (this === globalThis.%s) throw new DOMException('quota', 'QuotaExceededError');
        return set.call(this, key, value);
    };
"""
BROKEN = {
    "a channel throws when it is made": f"globalThis.BroadcastChannel = class "
    f"{{ constructor() {{ ({THROWS})() }} }}",
    "a channel throws when it is used": f"BroadcastChannel.prototype.postMessage = {THROWS}",
    "there are no channels": "delete globalThis.BroadcastChannel",
    "locks throw": f"LockManager.prototype.request = {THROWS}",
    "there are no locks": "delete Navigator.prototype.locks",
    "there is no randomUUID": "delete Crypto.prototype.randomUUID",
    "sessionStorage is full": QUOTA % "sessionStorage",
    "sessionStorage is blocked": "Object.defineProperty(globalThis, 'sessionStorage', "
    f"{{ get: {THROWS} }})",
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN.keys())
async def test_the_shop_is_live_and_sells(browser: Browser, shop: Site, script: str) -> None:
    async with await browser.new_context(base_url=shop.url) as context:
        await context.add_init_script(script)
        page = await context.new_page()
        await page.goto("/products/Set-Starter")
        await expect(page.locator(".bottom connection-status")).to_have_attribute("state", "live")
        await page.get_by_role("button", name="Add to Cart").click()
        await expect(page.locator("[data-cart-count]")).to_have_text("1")
        await page.goto("/checkout")
        await expect(page.locator("[data-panel=held]")).to_be_visible()


async def test_a_cart_that_cannot_be_kept_is_no_success(browser: Browser, shop: Site) -> None:
    async with await browser.new_context(base_url=shop.url) as context:
        await context.add_init_script(QUOTA % "localStorage")
        page = await context.new_page()
        await page.goto("/products/Set-Starter")
        await expect(page.locator(".bottom connection-status")).to_have_attribute("state", "live")
        await page.get_by_role("button", name="Add to Cart").click()
        await expect(page.get_by_text("Failed to add item to cart").first).to_be_attached()
        await expect(page.locator("[data-cart-count]")).to_have_text("0")


async def test_what_breaks_in_the_checkout_is_shown(browser: Browser, shop: Site) -> None:
    async with await browser.new_context(base_url=shop.url) as context:
        page = await context.new_page()
        await page.goto("/products/Set-Starter")
        await page.get_by_role("button", name="Add to Cart").click()
        await expect(page.locator("[data-cart-count]")).to_have_text("1")
        await context.add_init_script("delete Crypto.prototype.getRandomValues")
        await page.goto("/checkout")
        await expect(page.locator("[data-panel=failed]")).to_be_visible()


@pytest.mark.parametrize(
    ("lang", "currency", "text"),
    [
        ("en_US", "USD", "$139.00"),
        ("x-klingon", "usd", "$139.00"),
        ("en", "no money", "$139.00"),
        ("en", "JPY", "¥13,900"),
        ("en", "KWD", "KWD\u00a013.900"),
    ],
)
async def test_a_price_is_shown_whatever_the_page_calls_its_language_and_currency(
    someone: Someone, lang: str, currency: str, text: str
) -> None:
    page = await someone("/products/Set-Starter")
    await page.evaluate(
        """([lang, currency]) => {
            document.documentElement.lang = lang;
            document.documentElement.setAttribute('currency', currency);
            document.querySelector('.product live-price').update();
        }""",
        [lang, currency],
    )
    price = page.locator(".product live-price [part=price]").first
    await expect(price).to_have_text(text)
