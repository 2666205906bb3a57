"""From the cart to the thank-you page."""

import json
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta

from playwright.async_api import Page, expect

from tests.support.servers import until
from tests.support.shoppers import Someone
from tests.support.site import Connection, Site, Stock

Checkout = Callable[..., Awaitable[Page]]


async def held(connection: Connection, product_id: str) -> int:
    value = await connection.fetchval(
        "select reserved_quantity from products where id = $1", product_id
    )
    return int(value)


async def token_of(page: Page) -> str:
    kept = await page.evaluate("localStorage.getItem('shop-hold')")
    return str(json.loads(kept)["token"])


async def minutes_left(page: Page) -> float:
    text = await page.locator("[data-left]").inner_text()
    minutes, seconds = text.split(":")
    return int(minutes) + int(seconds) / 60


async def test_a_checkout_holds_the_cart_for_ten_minutes(
    shop: Site, checkout: Checkout, stock: Stock
) -> None:
    page = await checkout({"Set-Starter": 2, "Hardware-Castors-4": 1})
    assert await held(stock.connection, "Set-Starter") == 2
    assert 9.8 < await minutes_left(page) <= 10
    await expect(page.locator("[data-panel=held] [data-total]")).to_have_text("$314.00")
    await expect(page.locator("[data-panel=held] li.line")).to_have_count(2)
    first = await token_of(page)
    await page.reload()
    await expect(page.locator("[data-panel=held]")).to_be_visible()
    assert await token_of(page) == first, "a reload begins no new hold"


async def test_the_countdown_is_the_servers_whatever_the_clock_of_this_machine_says(
    shop: Site, someone: Someone, cart_of: Checkout
) -> None:
    page = await cart_of("/products", {"Set-Starter": 1})
    now = await page.evaluate("Date.now()")
    await page.clock.install(time=(now + 3_600_000) / 1000)  # an hour fast
    await page.goto("/checkout")
    await expect(page.locator("[data-left]")).to_have_text(re.compile(r"^(10:00|9:5\d)$"))
    await page.clock.run_for(60_000)
    await expect(page.locator("[data-left]")).to_have_text(re.compile(r"^(9:00|8:5\d)$"))
    await page.clock.run_for(8 * 60_000)
    await expect(page.locator(".timer")).to_have_attribute("data-urgent", "")


async def test_the_end_is_clear_and_it_can_be_held_again(
    shop: Site, cart_of: Checkout, stock: Stock
) -> None:
    page = await cart_of("/products", {"Set-Starter": 2})
    await page.clock.install()
    await page.goto("/checkout")
    await expect(page.locator("[data-panel=held]")).to_be_visible()
    first = await token_of(page)
    await stock.connection.execute(
        "update reservations set created_at = created_at - $1::interval,"
        " expires_at = expires_at - $1::interval",
        timedelta(minutes=10),
    )
    await page.clock.run_for(10 * 60_000 + 2_000)
    await expect(page.get_by_role("heading", name="Your time is up")).to_be_focused()
    await expect(page.get_by_text("still in your cart")).to_be_visible()
    await expect(page.locator("[data-cart-count]")).to_have_text("2")
    await page.get_by_role("button", name="Hold them again").click()
    await expect(page.locator("[data-panel=held]")).to_be_visible()
    assert await token_of(page) != first
    assert await held(stock.connection, "Set-Starter") == 2


async def test_at_zero_the_server_is_asked_before_the_end_is_told(
    shop: Site, cart_of: Checkout
) -> None:
    """A clock that jumps ahead, as after sleep, ends nothing that still holds."""
    page = await cart_of("/products", {"Set-Starter": 1})
    await page.clock.install()
    await page.goto("/checkout")
    await expect(page.locator("[data-panel=held]")).to_be_visible()
    async with page.expect_response("**/api/reservations/*") as answer:
        await page.clock.run_for(10 * 60_000 + 2_000)
    assert (await answer.value).status == 200
    await expect(page.locator("[data-panel=ended]")).to_be_hidden()
    await expect(page.locator("[data-left]")).to_have_text(re.compile(r"^(10:00|9:\d\d)$"))


async def test_a_hold_can_be_extended_once(shop: Site, checkout: Checkout) -> None:
    page = await checkout({"Set-Starter": 1})
    more = page.get_by_role("button", name="I need more time")
    await more.click()
    await expect(page.get_by_text("You have 20 minutes now")).to_be_visible()
    await expect(more).to_be_hidden()
    assert 19.7 < await minutes_left(page) <= 20
    await expect(page.locator("[data-hold-left]")).to_have_text(re.compile(r"^(20:00|19:\d\d)$"))
    await page.reload()
    await expect(page.locator("[data-panel=held]")).to_be_visible()
    await expect(more).to_be_hidden()
    assert 19.7 < await minutes_left(page) <= 20


async def test_a_cancelled_checkout_gives_back_what_it_held(
    shop: Site, checkout: Checkout, stock: Stock
) -> None:
    page = await checkout({"Set-Starter": 3})
    await page.get_by_role("button", name="Cancel and release my items").click()
    await expect(page.get_by_role("heading", name="Your cart")).to_be_visible()
    await expect(page.locator("li.line")).to_have_count(1)
    assert await held(stock.connection, "Set-Starter") == 0


async def test_of_what_was_sold_in_the_meantime_the_checkout_offers_the_rest_and_others(
    shop: Site, cart_of: Checkout, stock: Stock
) -> None:
    """Wants 5, has 3; the other line has none left."""
    page = await cart_of("/cart", {"Insert-Bottle-8x8": 5, "Set-Starter": 1})
    await expect(page.locator("li.line")).to_have_count(2)
    await page.evaluate("window.stop()")
    await stock.set("Insert-Bottle-8x8", 3)
    await stock.set("Set-Starter", 0)
    await page.get_by_role("link", name="Check out").click()
    await expect(page.get_by_role("heading", name="Not enough in stock")).to_be_focused()
    bottles = page.locator(".shortages > li", has_text="Bottle Cross")
    await expect(bottles).to_contain_text("You want 5, 3 are left")
    await expect(bottles.locator(".instead li")).to_have_count(3)
    sets = page.locator(".shortages > li", has_text="Starter Set")
    await expect(sets).to_contain_text("You want 1, none is left")
    assert await held(stock.connection, "Insert-Bottle-8x8") == 0, "nothing is held unasked"
    await page.get_by_role("button", name="Take what is available").click()
    await expect(page.get_by_text("There was less in stock")).to_be_visible()
    await expect(page.locator("[data-panel=held] li.line")).to_have_count(1)
    await expect(page.locator("[data-panel=held] li.line")).to_contain_text("3 of 5")
    await expect(page.locator("[data-cart-count]")).to_have_text("3")
    assert await held(stock.connection, "Insert-Bottle-8x8") == 3


async def test_an_alternative_leads_to_its_page(shop: Site, cart_of: Checkout) -> None:
    page = await cart_of("/checkout", {"Set-Desk": 1})
    await page.locator(".instead a").first.click()
    await expect(page.get_by_role("button", name="Add to Cart")).to_be_enabled()


async def test_a_payment_is_a_signed_event_and_the_goods_are_sold(
    shop: Site, checkout: Checkout, stock: Stock
) -> None:
    before = shop.metric("webhooks_total", result="handled")
    page = await checkout({"Set-Starter": 2, "Material-8x8-C": 1})
    token = await token_of(page)
    await page.get_by_role("link", name="Pay $286.00").click()
    await expect(page.get_by_role("heading", name="Payment")).to_be_visible()
    await page.get_by_role("button", name="Pay $286.00").click()
    await expect(page.get_by_role("heading", name="Thank you!")).to_be_visible()
    await expect(page.locator(".total")).to_contain_text("$286.00")
    await expect(page.locator("[data-cart-count]")).to_have_text("0")
    row = await stock.connection.fetchrow(
        "select sold_quantity, reserved_quantity from products where id = 'Set-Starter'"
    )
    assert row is not None
    assert tuple(row) == (29, 0)  # 27 in the sample
    assert shop.metric("webhooks_total", result="handled") == before + 1
    assert await stock.connection.fetchval("select type from webhook_events") == (
        "checkout.session.completed"
    )
    await page.goto(f"/demo/pay?reservation={token}")
    await expect(page.get_by_role("heading", name="Thank you!")).to_be_visible()
    await page.goto("/checkout")
    await expect(page.get_by_role("heading", name="Your cart is empty")).to_be_visible()


async def test_a_declined_payment_gives_back_the_goods_and_keeps_the_cart(
    shop: Site, checkout: Checkout, stock: Stock
) -> None:
    page = await checkout({"Set-Starter": 2})
    await page.get_by_role("link", name="Pay $").click()
    await page.get_by_role("button", name="Decline the card").click()
    await expect(page.get_by_role("heading", name="The payment did not go through")).to_be_visible()
    assert await held(stock.connection, "Set-Starter") == 0
    await expect(page.locator("[data-cart-count]")).to_have_text("2")


async def test_after_a_declined_payment_the_server_says_what_became_of_the_hold(
    shop: Site, checkout: Checkout, stock: Stock
) -> None:
    """S2: not the page's address, which stays when the shopper goes on, reloads or goes back."""
    page = await checkout({"Set-Starter": 2})
    await page.get_by_role("link", name="Pay $").click()
    await page.get_by_role("button", name="Decline the card").click()
    declined = page.get_by_role("heading", name="The payment did not go through")
    await expect(declined).to_be_visible()
    await page.get_by_role("button", name="Hold them again").click()
    await expect(page.locator("[data-panel=held]")).to_be_visible()
    await page.reload()
    await expect(page.locator("[data-panel=held]")).to_be_visible()
    assert await held(stock.connection, "Set-Starter") == 2

    await page.get_by_role("link", name="Pay $").click()
    await page.get_by_role("button", name="Pay $").click()
    await expect(page.get_by_role("heading", name="Thank you!")).to_be_visible()
    await page.evaluate("setTimeout(() => history.go(-2))")  # to the checkout
    settled = page.get_by_role("heading", name=re.compile("Your cart is empty|Thank you!"))
    await expect(settled).to_be_visible()
    await expect(declined).to_be_hidden()
    page = await page.context.new_page()
    await page.goto("/checkout?declined")
    await expect(page.get_by_role("heading", name="Your cart is empty")).to_be_visible()


async def test_a_payment_page_that_was_left_leads_back_to_the_hold(
    shop: Site, checkout: Checkout, stock: Stock
) -> None:
    """S2: a hold that is still there is not said to be gone."""
    page = await checkout({"Set-Starter": 2})
    first = await token_of(page)
    await page.goto("/checkout?declined")
    await expect(page.locator("[data-panel=held]")).to_be_visible()
    await expect(page.get_by_text("The payment did not go through")).to_be_visible()
    assert await token_of(page) == first
    assert not page.url.endswith("declined")


async def test_two_tabs_show_one_hold(shop: Site, checkout: Checkout, stock: Stock) -> None:
    """S5: the second tab neither takes the first one's hold nor leaves it counting down."""
    first = await checkout({"Set-Starter": 2})
    token = await token_of(first)
    second = await first.context.new_page()
    await second.goto("/checkout")
    await expect(second.locator("[data-panel=held]")).to_be_visible()
    assert await token_of(second) == token
    assert await held(stock.connection, "Set-Starter") == 2
    await second.get_by_role("button", name="Cancel and release my items").click()
    await expect(
        first.get_by_role("heading", name="Your items are not held any more")
    ).to_be_visible()
    await expect(first.locator("[data-panel=held]")).to_be_hidden()

    await first.get_by_role("button", name="Hold them again").click()
    await expect(first.locator("[data-panel=held]")).to_be_visible()
    await second.goto("/checkout")
    await second.get_by_role("link", name="Pay $").click()
    await second.get_by_role("button", name="Pay $").click()
    await expect(first.get_by_role("heading", name="Thank you!")).to_be_visible()


async def test_the_own_hold_is_shown_as_the_shoppers_own_on_every_page(
    shop: Site, checkout: Checkout, someone: Someone, stock: Stock
) -> None:
    """S4: the last units, held by the shopper, are not sold out for the shopper."""
    await stock.set("Set-Starter", 2)
    await shop.knows("Set-Starter", 2)
    page = await checkout({"Set-Starter": 2})
    await page.goto("/cart")
    row = page.locator("li.line", has_text="Starter Set")
    await expect(row.get_by_text("2 held for you")).to_be_visible()
    await expect(row.locator(".trouble")).to_be_empty()
    await expect(row.get_by_text("Sold Out")).to_be_hidden()
    await expect(page.get_by_text("We hold items for you for another 9:")).to_be_visible()
    await expect(page.get_by_text("not held yet")).to_be_hidden()
    await page.goto("/products/Set-Starter")
    await expect(page.get_by_text("2 are held for you in your checkout")).to_be_visible()
    await page.get_by_role("link", name="Held for you 9:").click()
    await expect(page.locator("[data-panel=held]")).to_be_visible()

    other = await someone("/products/Set-Starter")
    await expect(other.locator(".buy stock-indicator")).to_have_attribute("state", "danger")
    await expect(other.locator("[data-hold]")).to_be_hidden()
    await expect(other.locator("[data-own-hold]")).to_be_hidden()

    await page.get_by_role("button", name="Cancel and release my items").click()
    await expect(page.get_by_role("heading", name="Your cart")).to_be_visible()
    await expect(page.locator("[data-hold]")).to_be_hidden()
    await expect(page.get_by_text("not held yet")).to_be_visible()


async def test_a_hold_that_ended_elsewhere_is_not_shown(
    shop: Site, checkout: Checkout, stock: Stock
) -> None:
    """S4: the server is asked, not only this browser's clock."""
    page = await checkout({"Set-Starter": 1})
    await stock.connection.execute("select release_reservation($1)", await token_of(page))
    await page.goto("/products/Set-Starter")
    await expect(page.locator("[data-hold]")).to_be_hidden()
    await expect(page.locator("[data-own-hold]")).to_be_hidden()


async def test_what_comes_back_can_be_held_without_another_try(
    shop: Site, cart_of: Checkout, stock: Stock
) -> None:
    """S8: the page of a shortage is live, and a line can be removed there."""
    for product_id in ("Set-Starter", "Material-8x8-V"):
        await stock.set(product_id, 0)
        await shop.knows(product_id, 0)
    page = await cart_of("/checkout", {"Set-Starter": 2, "Material-8x8-V": 1})
    short = page.locator("[data-panel=short]")
    await expect(short.get_by_role("heading", name="Not enough in stock")).to_be_visible()
    sets = page.locator(".shortages > li", has_text="Starter Set")
    await expect(sets.get_by_text("You want 2, none is left")).to_be_visible()
    await expect(short.get_by_role("button", name="Take what is available")).to_be_hidden()
    await stock.set("Set-Starter", 1)
    await expect(sets.get_by_text("You want 2, 1 is left")).to_be_visible()
    await expect(short.get_by_role("button", name="Take what is available")).to_be_visible()
    await expect(short.get_by_role("button", name="Hold them now")).to_be_hidden()
    await stock.set("Set-Starter", 2)
    await expect(sets.get_by_text("2, in stock")).to_be_visible()
    await short.get_by_role("button", name="Remove Veneer Panel").click()
    await expect(short.get_by_role("heading", name="In stock again")).to_be_focused()
    await expect(page.locator("[data-cart-count]")).to_have_text("2")
    await short.get_by_role("button", name="Hold them now").click()
    await expect(page.locator("[data-panel=held]")).to_be_visible()
    assert await held(stock.connection, "Set-Starter") == 2


async def test_a_payment_that_is_not_confirmed_yet_is_waited_for(
    shop: Site, checkout: Checkout, stock: Stock
) -> None:
    page = await checkout({"Set-Starter": 1})
    token = await token_of(page)
    await page.goto(f"/thanks?reservation={token}")
    await expect(page.get_by_role("heading", name="Your payment is on its way")).to_be_visible()
    await expect(page.locator("[data-cart-count]")).to_have_text("1")
    await stock.connection.execute("select complete_order($1, null, 'pi_late')", token)
    await expect(page.get_by_role("heading", name="Thank you!")).to_be_visible()
    await expect(page.locator("[data-cart-count]")).to_have_text("0")


async def test_what_cannot_be_held_is_said_in_words(shop: Site, cart_of: Checkout) -> None:
    page = await cart_of("/checkout", {"Set-Bookcase-3x4": 3})
    await expect(
        page.get_by_text("One order may have at most 2 of Set-Bookcase-3x4")
    ).to_be_visible()
    page = await cart_of("/checkout", {"no-such-thing": 1})
    await expect(page.get_by_text("no-such-thing is not in the shop any more.")).to_be_visible()


async def test_while_the_server_is_away_the_checkout_says_so_and_can_be_tried_again(
    shop: Site, cart_of: Checkout
) -> None:
    page = await cart_of("/cart", {"Set-Starter": 1})
    await page.route("**/api/reservations", lambda route: route.abort())
    await page.goto("/checkout")
    await expect(page.get_by_text("The shop does not answer")).to_be_visible()
    await page.unroute("**/api/reservations")
    await page.get_by_role("button", name="Try again").click()
    await expect(page.locator("[data-panel=held]")).to_be_visible()


async def test_the_webhook_takes_nothing_that_is_not_signed(shop: Site, checkout: Checkout) -> None:
    page = await checkout({"Set-Starter": 1})
    status = await page.evaluate(
        """token => fetch('/api/webhooks/stripe', {method: 'POST', body: JSON.stringify({
             id: 'evt_1', type: 'checkout.session.completed', data: {object: {
               id: 'cs_1', payment_status: 'paid', client_reference_id: token}}})
           }).then(answer => answer.status)""",
        await token_of(page),
    )
    assert status == 400
    await until(lambda: shop.metric("webhooks_total", result="rejected") == 1)
