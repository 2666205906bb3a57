"""Hostile ids and texts are shown, never run; what breaks the schema is ignored, and asked for."""

import json
from html import escape
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from tests.support.site import Site, Stock, is_in_state, literal, shows

STATUS = "<connection-status></connection-status>"
HOSTILE = [
    'it\'s "quoted"',
    "a/b?c=d&e#f",
    "100% %2F %00",
    "  two  spaces ",
    "emoji 🛋️ é",
    "comma,separated",
    "<img src=x onerror=window.hacked=1>",
    "back\\slash",
    "]]><script>window.hacked=1</script>",
]


@pytest.mark.parametrize("product_id", HOSTILE)
async def test_any_id_works_and_is_text(
    live_server: Site, stock: Stock, page: Page, product_id: str
) -> None:
    hostile = "<img src=x onerror=window.hacked=1>"
    await stock.add(product_id, most=42, name=hostile, variants={f"{product_id}-{hostile}": 42})
    await stock.connection.execute("update variants set variant_value = $1", hostile)
    tags = "<stock-indicator></stock-indicator><add-to-cart></add-to-cart>"
    body = f'<main product-id="{escape(product_id)}">{tags}</main>{STATUS}'
    body += '<inventory-toasts time="60000"></inventory-toasts>'
    await page.goto(live_server.show("page.html", body))
    await is_in_state(page, "live")
    await shows(page, "stock-indicator", "42 available")
    assert live_server.open_streams == 1
    await expect(page.locator("option")).to_have_text([hostile])
    await stock.set(product_id, 0)
    await shows(page, "stock-indicator", "Sold Out")
    await expect(page.locator("[part~=toast]")).to_have_text(f"{hostile}: Sold Out")
    assert await page.evaluate("window.hacked") is None


def product(**changes: Any) -> dict[str, Any]:
    return {
        "productId": "cube",
        "name": "Cube",
        "maxQuantity": 42,
        "soldQuantity": 0,
        "availableQuantity": 42,
        "isAvailable": True,
        "stock": 42,
        "status": "active",
        "price": 4900,
        "isLowStock": False,
        "stockMessage": "42 available",
        "lowStockThreshold": 10,
        "version": 5,
        "updatedAt": "2030-01-01T00:00:00.000Z",
        **changes,
    }


def update(**changes: Any) -> dict[str, Any]:
    given = product(variantId=None, timestamp="2030-01-01T00:00:01.000Z", **changes)
    given.pop("updatedAt")
    return given


def event(name: str, data: object) -> str:
    text = data if isinstance(data, str) else json.dumps(data)
    return f"event: {name}\ndata: {text}\n\n"


BROKEN = [
    event("inventory_updated", update(version=6, availableQuantity="none")),
    event("inventory_updated", update(version=6, availableQuantity=-1)),
    event("inventory_updated", update(version=6, availableQuantity=1.5)),
    event("inventory_updated", update(version=6, isAvailable="yes")),
    event("inventory_updated", update(version=6, stockMessage=None)),
    event("inventory_updated", update(version=-6)),
    event("inventory_updated", update(version=6, productId=7)),
    event("inventory_updated", "{not json"),
    event("inventory_updated", "null"),
    event("inventory_updated", "7"),
    event("snapshot", {"products": "none", "unknown": [], "live": True}),
    event("snapshot", {"products": [None, 7, {}], "unknown": [], "live": True}),
    event("snapshot", {"products": [product(version=6, variants=[{}])], "live": True}),
    event("product_status_changed", {"productId": "cube"}),
]


async def fed(site: Site, page: Page, events: str) -> None:
    """A page whose stream says this and ends; after that, no stream can be had."""

    async def answer(route: Route) -> None:
        if fed.has_answered:  # type: ignore[attr-defined]  # reset below
            await route.abort()
        else:
            fed.has_answered = True  # type: ignore[attr-defined]
            await route.fulfill(content_type="text/event-stream", body=events)

    fed.has_answered = False  # type: ignore[attr-defined]
    await page.route("**/stream?**", answer)
    body = '<stock-indicator product-id="cube"></stock-indicator>' + STATUS
    script = 'import { stockStream } from "/client/stock-stream.js";\nwindow.store = stockStream();'
    await page.clock.install()
    await page.goto(site.show("page.html", body, script))


async def test_what_breaks_the_schema_is_ignored_counted_and_asked_for_again(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=42)
    start = event("snapshot", {"products": [product()], "unknown": [], "live": True})
    async with page.expect_request("**/batch") as poll:
        await fed(live_server, page, start + "".join(BROKEN))
        await shows(page, "stock-indicator", "42 available")
        invalid = await page.evaluate("store.invalid")
        assert invalid == len(BROKEN) + 2, "one of them has three that are wrong"
        await page.clock.run_for(12_000)
    assert (await poll.value).post_data == '{"productIds":["cube"]}'
    await is_in_state(page, "polling")
    await shows(page, "stock-indicator", "42 available")


@pytest.mark.parametrize(
    "late",
    [
        event("inventory_updated", update(version=4, availableQuantity=1, stockMessage="old")),
        event("snapshot", {"products": [product(version=4, stockMessage="old")], "live": True}),
        event(
            "product_status_changed",
            {"productId": "cube", "status": "draft", "timestamp": "2029-01-01T00:00:00.000Z"},
        ),
    ],
)
async def test_an_older_version_is_never_shown_over_a_newer(
    live_server: Site, stock: Stock, page: Page, late: str
) -> None:
    start = event("snapshot", {"products": [product()], "unknown": [], "live": True})
    last = event("inventory_updated", update(productId="other", version=1))
    await page.route("**/batch", lambda route: route.abort())
    await fed(live_server, page, start + late + last)
    await page.wait_for_function("() => store.get('cube') && store.state === 'connecting'")
    await page.clock.run_for(100)
    await shows(page, "stock-indicator", "42 available")
    assert await page.evaluate("store.get('cube').version") == 5
    assert await page.evaluate("store.invalid") == 0


async def test_an_update_of_a_variant_that_is_not_known_is_asked_about(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """An update says no variant's name."""
    await stock.add("cube", most=42)
    start = event("snapshot", {"products": [product(version=0)], "unknown": [], "live": True})
    strange = event("inventory_updated", {**update(version=9), "variantId": "cube-black"})
    await fed(live_server, page, start + strange)
    await shows(page, "stock-indicator", "42 available")
    async with page.expect_request("**/batch"):
        await page.clock.run_for(12_000)


async def test_the_store_has_no_say_over_the_pages_objects(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """Ids such as those of Object's own properties."""
    ids = ["__proto__", "constructor", "toString"]
    await stock.add(*ids, most=42)
    body = "".join(f'<stock-indicator product-id="{each}"></stock-indicator>' for each in ids)
    await page.goto(live_server.show("page.html", body))
    for each in ids:
        await shows(page, f"[product-id={literal(each)}]", "42 available")


async def test_a_tag_whose_id_cannot_be_does_no_harm_to_the_others(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """The server refuses a request with such an id in it."""
    await stock.add("cube", "🛋️" * 100, most=42)
    ids = ["", "x" * 201, "🛋️" * 100, "cube"]
    body = "".join(f'<stock-indicator product-id="{each}">-</stock-indicator>' for each in ids)
    await page.goto(live_server.show("page.html", body + STATUS))
    await is_in_state(page, "live")
    await shows(page, "stock-indicator:nth-of-type(4)", "42 available")
    await shows(page, "stock-indicator:nth-of-type(3)", "42 available")
    assert await page.inner_text("stock-indicator:nth-of-type(2)") == "-"
