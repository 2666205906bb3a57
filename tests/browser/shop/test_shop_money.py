"""Prices in the shop's own currency: the server and the scripts write the same."""

import re
from typing import Any

import pytest
from playwright.async_api import expect

from stream_server.web.pages.rendering import money
from tests.support.shoppers import SECRET, Someone
from tests.support.site import Site, Stock, shows

WRITTEN = {
    "EUR": ("€57.00", "€171.00", "€60.00"),
    "JPY": ("¥5,700", "¥17,100", "¥6,000"),
    "HUF": ("HUF\xa057.00", "HUF\xa0171.00", "HUF\xa060.00"),
    "BHD": ("BHD\xa05.700", "BHD\xa017.100", "BHD\xa06.000"),
}


@pytest.fixture(params=WRITTEN)
def currency(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def overrides(currency: str) -> dict[str, Any]:
    return {"payment_url": "/demo/pay", "stripe_webhook_secret": SECRET, "currency": currency}


async def test_prices_are_the_same_by_the_server_and_by_scripts(
    shop: Site, someone: Someone, cart_of: Someone, stock: Stock, currency: str
) -> None:
    one, three, later = WRITTEN[currency]
    await stock.price("Set-Starter", 5700)
    plain = await someone("/products/Set-Starter", java_script_enabled=False)
    await expect(plain.locator(".buy live-price")).to_have_text(one, use_inner_text=True)
    page = await cart_of("/products/Set-Starter", {"Set-Starter": 3})
    await shows(page, ".buy live-price", one)
    await stock.price("Set-Starter", 6000)
    await shows(page, ".buy live-price", later)
    # The toast, too, says it as the price on the page does.
    await expect(page.locator("inventory-toasts [part~=toast]")).to_contain_text(f"now {later}")
    await stock.price("Set-Starter", 5700)
    await page.goto("/cart")
    await expect(page.locator("[data-total]")).to_have_text(three)
    await page.goto("/checkout")
    await page.get_by_role("link", name=f"Pay {three}").click()
    await expect(page.get_by_role("button", name=f"Pay {three}")).to_be_visible()


@pytest.mark.parametrize("currency", ["USD"])
async def test_every_currency_has_the_same_decimals_by_the_server_and_by_scripts(
    shop: Site, someone: Someone
) -> None:
    """Browsers and releases differ in the decimals that they show of a currency by themselves."""
    page = await someone("/products/Set-Starter")
    written = await page.evaluate("""async () => {
        const { money } = await import('/client/money.js');
        return Intl.supportedValuesOf('currency').map((code) => {
            const element = document.createElement('p');
            element.setAttribute('currency', code);
            element.lang = 'en';
            return [code, money(123456789, element)];
        });
    }""")
    assert len(written) > 100
    number = re.compile(r"[0-9][0-9.,]*$")
    ours = {code: number.findall(money(123_456_789, code)) for code, _ in written}
    assert {code: number.findall(text) for code, text in written} == ours


@pytest.mark.parametrize("currency", ["USD"])
async def test_the_cart_knows_what_an_order_may_have_before_it_is_refused(
    shop: Site, someone: Someone, stock: Stock
) -> None:
    assert shop.app is not None
    most = shop.app.state.settings.max_units_per_line
    await stock.connection.execute(
        "update products set max_quantity = null where id = 'Set-Starter'"
    )
    page = await someone("/products/Set-Starter")
    field = page.get_by_role("spinbutton", name="Quantity:")
    await expect(field).to_have_attribute("max", str(most))
    await field.fill(str(most))
    await page.get_by_role("button", name="Add to Cart").click()
    await expect(page.locator("[data-cart-count]")).to_have_text("99+")
    await field.fill("1")
    await page.get_by_role("button", name="Add to Cart").click()
    await expect(
        page.get_by_text(f"One order may have at most {most} of this").first
    ).to_be_visible()
    await page.goto("/cart")
    quantity = page.get_by_label("Quantity of Starter Set")
    await expect(quantity).to_have_attribute("max", str(most))
    await quantity.fill(str(most + 1))
    await quantity.press("Enter")
    await page.locator("h1").click()
    await expect(page.get_by_role("status").filter(has_text="One order may have")).to_have_text(
        f"One order may have at most {most} of this"
    )
    await expect(quantity).to_have_value(str(most))
