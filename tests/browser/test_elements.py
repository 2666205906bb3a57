"""The elements on a page: texts, states and thresholds of A and C."""

import pytest
from playwright.async_api import Page, expect

from tests.support.site import Site, Stock, indicators, is_in_state, shows


@pytest.mark.parametrize(
    ("most", "text", "state"),
    [
        (None, "In Stock", "success"),
        (11, "11 available", "default"),
        (10, "Only 10 remaining!", "warning"),
        (1, "Only 1 remaining!", "warning"),
        (0, "Sold Out", "danger"),
    ],
)
async def test_the_indicator_has_four_states(
    live_server: Site, stock: Stock, page: Page, most: int | None, text: str, state: str
) -> None:
    await stock.add("cube", most=most)
    await page.goto(live_server.show("page.html", indicators(["cube"])))
    await shows(page, "stock-indicator", text)
    await expect(page.locator("stock-indicator")).to_have_attribute("state", state)


async def test_what_the_server_rendered_stands_until_there_is_word(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=42)
    await page.route("**/api/**", lambda route: route.abort())
    await page.goto(live_server.show("page.html", indicators(["cube"])))
    await page.wait_for_function("!!customElements.get('stock-indicator')")
    assert await page.inner_text("stock-indicator") == "as rendered"
    assert await page.inner_text("live-price") == "$49.00"
    await page.unroute("**/api/**")
    await page.evaluate("dispatchEvent(new Event('online'))")
    await shows(page, "stock-indicator", "42 available")


async def test_a_change_shows_everywhere_on_the_card_and_glows(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """The card says "Live Update"; a while later it does not."""
    await stock.add("cube", most=42)
    await page.goto(live_server.show("page.html", indicators(["cube"])))
    await shows(page, "stock-indicator", "42 available")
    await stock.connection.execute(
        "update products set max_quantity = 7, base_price = 5900 where id = 'cube'"
    )
    await shows(page, "stock-indicator", "Only 7 remaining!")
    await shows(page, "live-price", "$59.00")
    await expect(page.locator("stock-indicator")).to_have_attribute("updated", "")
    await expect(page.locator("live-price")).to_have_attribute("updated", "")
    assert await page.locator("stock-indicator").locator("[part~=update]").is_visible()
    await expect(page.locator("[updated]")).to_have_count(0)


async def test_a_badge_appears_when_it_is_sold_out_and_goes_when_it_is_back(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=1)
    await page.goto(live_server.show("page.html", indicators(["cube"])))
    await shows(page, "stock-indicator", "Only 1 remaining!")
    badge = page.locator("sold-out-badge")
    await expect(badge).to_be_hidden()
    await stock.set("cube", 0)
    await expect(badge).to_be_visible()
    await expect(badge).to_have_text("Sold Out")
    await stock.set("cube", 1)
    await expect(badge).to_be_hidden()


async def test_a_limited_edition_badge_has_a_sold_out_state(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=1)
    tag = (
        '<sold-out-badge product-id="cube"><b slot="available">Limited Edition</b></sold-out-badge>'
    )
    await page.goto(live_server.show("page.html", tag))
    await expect(page.locator("sold-out-badge")).to_have_attribute("state", "default")
    await expect(page.get_by_text("Limited Edition")).to_be_visible()
    await stock.set("cube", 0)
    await expect(page.locator("sold-out-badge")).to_have_attribute("state", "danger")
    await expect(page.get_by_text("Limited Edition")).to_be_hidden()
    await expect(page.get_by_text("Sold Out")).to_be_visible()


@pytest.mark.parametrize(
    ("most", "title"), [(1, "Only 1 unit remaining"), (10, "Only 10 units remaining")]
)
async def test_the_warning_counts_units(
    live_server: Site, stock: Stock, page: Page, most: int, title: str
) -> None:
    await stock.add("cube", most=most)
    tag = '<low-stock-warning product-id="cube" hidden></low-stock-warning>'
    await page.goto(live_server.show("page.html", tag))
    await shows(page, "low-stock-warning", title)
    text = "This is a limited edition item. Order soon before it sells out."
    await expect(page.get_by_text(text)).to_be_visible()
    await stock.set("cube", 11)
    await expect(page.locator("low-stock-warning")).to_be_hidden()


async def test_a_product_page_counts_items(live_server: Site, stock: Stock, page: Page) -> None:
    await stock.add("cube", most=42)
    tag = '<stock-indicator product-id="cube" long></stock-indicator>'
    await page.goto(live_server.show("page.html", tag))
    await shows(page, "stock-indicator", "42 items available")


async def test_a_price_is_in_the_currency_and_language_of_the_page(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", price=123456)
    tag = '<main lang="de" currency="EUR"><live-price product-id="cube"></live-price></main>'
    await page.goto(live_server.show("page.html", tag))
    await shows(page, "live-price", "1.234,56\xa0€")


async def test_a_discontinued_product_cannot_be_had_and_a_draft_is_gone(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", "lamp", most=50)
    await page.goto(live_server.show("page.html", indicators(["cube", "lamp"])))
    await shows(page, "[product-id=cube] stock-indicator", "50 available")
    await shows(page, "[product-id=lamp] stock-indicator", "50 available")
    await stock.status("cube", "discontinued")
    await stock.status("lamp", "draft")
    await shows(page, "[product-id=cube] stock-indicator", "Sold Out")
    await shows(page, "[product-id=lamp] stock-indicator", "Sold Out")
    await stock.status("lamp", "active")
    await shows(page, "[product-id=lamp] stock-indicator", "50 available")


async def test_a_product_that_comes_later_appears(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("here")
    await page.goto(live_server.show("page.html", indicators(["here", "later"])))
    await shows(page, "[product-id=here] stock-indicator", "1000 available")
    assert await page.inner_text("[product-id=later] stock-indicator") == "as rendered"
    await stock.add("later", most=5)
    await shows(page, "[product-id=later] stock-indicator", "Only 5 remaining!", within=15)


CART = """
window.added = [];
window.finish = null;
document.addEventListener('add-to-cart', ({detail}) => {
  const {waitUntil, ...chosen} = detail;
  window.added.push(chosen);
  waitUntil(new Promise((resolve, reject) => { window.finish = {resolve, reject}; }));
});
"""


async def test_add_to_cart_brings_its_form_and_says_how_it_went(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=100, name="Cube", variants={"cube-black": 5, "cube-white": 0})
    body = '<add-to-cart product-id="cube"></add-to-cart><inventory-toasts></inventory-toasts>'
    await page.goto(live_server.show("page.html", body, CART))
    button = page.locator("add-to-cart button")
    await expect(button).to_have_text("Add to Cart")
    await expect(page.locator("option")).to_have_text(["black", "white - Sold Out"])
    quantity = page.get_by_label("Quantity:")
    await expect(quantity).to_have_attribute("min", "1")
    await expect(quantity).to_have_attribute("max", "5")
    await quantity.fill("2")
    await button.click()
    await expect(button).to_have_text("Adding...")
    await expect(button).to_be_disabled()
    assert await page.evaluate("window.added") == [
        {"productId": "cube", "variantId": "cube-black", "quantity": 2, "name": "Cube"}
    ]
    await page.evaluate("window.finish.resolve()")
    await expect(button).to_have_text("Add to Cart")
    await expect(page.get_by_text("Cube added to cart").first).to_be_visible()
    await button.click()
    await page.evaluate("window.finish.reject(new Error('no'))")
    await expect(page.get_by_text("Failed to add item to cart").first).to_be_visible()


async def test_a_sold_out_variant_cannot_be_added(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=100, variants={"cube-black": 5, "cube-white": 0})
    body = '<add-to-cart product-id="cube"></add-to-cart>'
    await page.goto(live_server.show("page.html", body, CART))
    button = page.locator("add-to-cart button")
    await page.get_by_label("Select Color:").select_option("cube-white")
    await expect(button).to_have_text("Sold Out")
    await expect(button).to_be_disabled()
    await expect(page.get_by_label("Quantity:")).to_be_disabled()
    await stock.set_variant("cube-white", 3)
    await expect(button).to_have_text("Add to Cart")
    await expect(page.locator("option")).to_have_text(["black", "white"])
    await stock.set("cube", 0)
    await expect(button).to_have_text("Sold Out")


async def test_submitting_what_was_just_sold_out_says_so(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=0)
    body = '<add-to-cart product-id="cube"></add-to-cart><inventory-toasts></inventory-toasts>'
    await page.goto(live_server.show("page.html", body, CART))
    await expect(page.locator("add-to-cart button")).to_have_text("Sold Out")
    await page.locator("add-to-cart form").dispatch_event("submit")
    await expect(page.get_by_text("This item is currently sold out").first).to_be_visible()
    assert await page.evaluate("window.added") == []


async def test_the_quantity_stays_within_what_there_is(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=None)
    await page.goto(live_server.show("page.html", '<add-to-cart product-id="cube"></add-to-cart>'))
    quantity = page.get_by_label("Quantity:")
    await expect(quantity).to_have_attribute("max", "100")
    await quantity.fill("9")
    await stock.set("cube", 4)
    await expect(quantity).to_have_attribute("max", "4")
    await expect(quantity).to_have_value("4")


FORM = """
<article product-id="cube">
  <add-to-cart><form action="/pages/cart.html" method="post">
    <label>Colour <select name="variantId">
      <option value="cube-black">Black</option><option value="cube-white">White</option>
    </select></label>
    <label>How many <input name="quantity" type="number" value="1"></label>
    <button>Add to Cart</button>
  </form></add-to-cart>
  <stock-indicator selected-variant></stock-indicator>
</article>
<inventory-toasts></inventory-toasts>
"""


async def test_a_form_that_the_server_rendered_is_used_as_it_is(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """It works without JavaScript; with it, it follows the stock and is sent in place."""
    await stock.add("cube", most=100, name="Cube", variants={"cube-black": 5, "cube-white": 0})
    await page.goto(live_server.show("page.html", FORM))
    await expect(page.locator("option")).to_have_text(["Black", "White - Sold Out"])
    await shows(page, "stock-indicator", "Only 5 remaining!")
    async with page.expect_request("**/cart.html") as request:
        await page.get_by_role("button").click()
    assert (await request.value).post_data == "variantId=cube-black&quantity=1"
    await expect(page.get_by_text("Failed to add item to cart").first).to_be_visible()
    await page.get_by_label("Colour").select_option("cube-white")
    await shows(page, "stock-indicator", "Sold Out")
    await expect(page.get_by_role("button")).to_have_text("Sold Out")


async def test_notify_me_is_there_while_it_is_sold_out(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("ü/1", most=0)
    asked = []

    async def answer(route, request):  # type: ignore[no-untyped-def]  # playwright's
        asked.append((request.url, request.post_data_json))
        await route.fulfill(json={"success": True, "data": {"message": "Look into your mail"}})

    await page.route("**/notifications", answer)
    await page.goto(live_server.show("page.html", '<notify-me product-id="ü/1"></notify-me>'))
    await page.get_by_label("E-mail").fill("a@b.example")
    await page.get_by_role("button", name="Notify Me").click()
    await expect(page.get_by_text("Look into your mail").first).to_be_visible()
    assert asked == [
        (
            f"{live_server.url}/api/products/%C3%BC%2F1/notifications",
            {"email": "a@b.example", "variantId": None},
        )
    ]
    await stock.set("ü/1", 5)
    await expect(page.locator("notify-me")).to_be_hidden()


async def test_toasts_tell_what_sold_out_and_came_back_and_go_by_themselves(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=50, name="Cube")
    body = indicators(["cube"]) + '<inventory-toasts time="500"></inventory-toasts>'
    await page.goto(live_server.show("page.html", body))
    await shows(page, "stock-indicator", "50 available")
    await stock.set("cube", 49)  # not worth a note
    await stock.set("cube", 0)
    toast = page.locator("inventory-toasts [part~=toast]")
    await expect(toast).to_have_text("Cube: Sold Out")
    await expect(toast).to_have_count(0)
    await stock.set("cube", 50)
    await expect(toast).to_have_text("Cube: back in stock")


async def test_changes_of_state_are_said_aloud_once_and_numbers_are_not(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=50, name="Cube")
    await page.goto(live_server.show("page.html", indicators(["cube"]) * 3))
    await shows(page, "stock-indicator", "50 available")
    await stock.set("cube", 40)
    await shows(page, "stock-indicator", "40 available")
    assert await page.locator("[role=status]").count() == 0
    await stock.set("cube", 0)
    await expect(page.locator("[role=status]")).to_have_text("Cube, Sold Out")


async def test_elements_can_be_moved_changed_and_removed(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """With the last one goes the connection."""
    await stock.add("cube", most=42)
    await stock.add("lamp", most=3)
    body = indicators(["cube"]) + "<connection-status></connection-status>"
    await page.goto(live_server.show("page.html", body))
    await shows(page, "stock-indicator", "42 available")
    await page.evaluate("document.querySelector('article').setAttribute('product-id', 'lamp')")
    await page.evaluate("document.body.append(document.querySelector('article'))")
    await shows(page, "stock-indicator", "Only 3 remaining!")
    assert live_server.open_streams == 1
    await page.evaluate("document.querySelector('article').remove()")
    await live_server.streams(0)
    await is_in_state(page, "connecting")
