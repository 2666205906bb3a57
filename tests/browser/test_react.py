"""The hooks in a real React 19 page."""

from typing import Any

from playwright.async_api import Page

from tests.support.react import react_modules
from tests.support.site import Site, Stock

PAGE = """
import * as React from '/pages/react.js';
import { createRoot } from '/pages/react-dom-client.js';
import { createHooks } from '/client/hooks.js';
const { createElement: h, useState } = React;
const hooks = createHooks(React);
const { useInventory, useProductUpdates, useInventoryFeed, InventoryProvider } = hooks;

window.renders = 0;
function Shown({ id, value }) {
  window.renders++;
  window.results = { ...window.results, [id]: value };
  return h('pre', { id }, JSON.stringify(value, (key, each) =>
    typeof each === 'function' ? undefined : each instanceof Error ? each.message : each));
}
const Inventory = ({ id, product, options }) =>
  h(Shown, { id, value: useInventory(product, options) });
const Updates = ({ id, product, variant }) =>
  h(Shown, { id, value: useProductUpdates(product, variant) });
const Feed = ({ id }) => h(Shown, { id, value: useInventoryFeed() });
const components = { Inventory, Updates, Feed };

const root = createRoot(document.getElementById('root'));
window.show = (children, provider) => {
  const list = children.map(([name, props]) => h(components[name], { key: props.id, ...props }));
  const [parent, given] = provider ? [InventoryProvider, provider] : [React.StrictMode, null];
  root.render(h(parent, given, ...list));
};
window.isReady = true;
"""

# Timers that were set and neither ran out nor were cleared.
COUNT_TIMERS = """
window.timers = new Set();
for (const kind of ['Timeout', 'Interval']) {
  const [set, clear] = [window[`set${kind}`], window[`clear${kind}`]];
  window[`set${kind}`] = (callback, ...rest) => {
    const timer = set(() => {
      if (kind === 'Timeout') window.timers.delete(timer);
      callback();
    }, ...rest);
    window.timers.add(timer);
    return timer;
  };
  window[`clear${kind}`] = (timer) => {
    window.timers.delete(timer);
    clear(timer);
  };
}
"""


async def opened(site: Site, page: Page) -> None:
    for name, source in react_modules().items():
        site.add(name, source)
    await page.goto(site.show("page.html", '<div id="root"></div>', PAGE))
    await page.wait_for_function("window.isReady")


async def show(page: Page, *children: list[Any], provider: dict[str, Any] | None = None) -> None:
    await page.evaluate("([children, provider]) => show(children, provider)", [children, provider])


async def becomes(page: Page, name: str, condition: str) -> Any:
    """Waits until what a hook returned (`it`) is so; gives it as JSON."""
    await page.wait_for_function(
        f"() => {{ const it = window.results?.[{name!r}]; return it && ({condition}); }}",
        timeout=5000,
    )
    return await page.evaluate(f"JSON.parse(document.getElementById({name!r}).textContent)")


async def test_use_inventory_keeps_its_contract(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=42, variants={"cube-black": 5})
    await opened(live_server, page)
    await page.evaluate("window.results = {}")
    await show(page, ["Inventory", {"id": "a", "product": "cube"}])
    await page.wait_for_selector("#a")
    first = await page.evaluate("Object.keys(results.a).sort()")
    assert first == ["error", "inventory", "isLoading", "isStale", "lastUpdated", "refresh"]
    got = await becomes(page, "a", "it.inventory")
    assert got["isLoading"] is False
    assert got["isStale"] is False
    assert got["error"] is None
    assert got["inventory"]["productId"] == "cube"
    assert got["inventory"]["maxQuantity"] == 42
    assert got["inventory"]["soldQuantity"] == 0
    assert got["inventory"]["availableQuantity"] == 5, "that of its variants"
    assert got["inventory"]["isAvailable"] is True
    assert got["inventory"]["variants"][0]["variantValue"] == "black"
    assert await page.evaluate("results.a.lastUpdated instanceof Date")
    await stock.set_variant("cube-black", 3)
    await becomes(page, "a", "it.inventory.availableQuantity === 3")
    assert await page.evaluate("results.a.refresh().then(() => 'asked')") == "asked"


async def test_what_does_not_exist_is_an_error_and_what_is_not_enabled_asks_nothing(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube")
    await opened(live_server, page)
    off = {"id": "off", "product": "cube", "options": {"enabled": False}}
    await show(page, ["Inventory", off])
    got = await becomes(page, "off", "!it.isLoading")
    assert got["inventory"] is None
    assert live_server.open_streams == 0
    await show(page, ["Inventory", {"id": "none", "product": "no such"}])
    got = await becomes(page, "none", "it.error")
    assert got["error"] == "There is no product no such"
    assert got["isLoading"] is False


async def test_it_is_stale_after_its_own_threshold(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube")
    await page.clock.install()
    await opened(live_server, page)
    quick = {"id": "quick", "product": "cube", "options": {"staleThreshold": 20_000}}
    await show(page, ["Inventory", {"id": "slow", "product": "cube"}], ["Inventory", quick])
    await becomes(page, "quick", "it.inventory")
    await page.clock.run_for(19_000)
    await becomes(page, "quick", "!it.isStale")
    await page.clock.run_for(2_000)
    await becomes(page, "quick", "it.isStale")
    await becomes(page, "slow", "!it.isStale")
    await page.clock.run_for(10_000)
    await becomes(page, "slow", "it.isStale")
    await stock.set("cube", 7)
    await becomes(page, "quick", "!it.isStale && it.inventory.availableQuantity === 7")
    await becomes(page, "slow", "!it.isStale")


async def test_it_polls_as_often_as_it_says_where_there_is_no_stream(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube")
    await page.add_init_script("delete window.EventSource")
    await page.clock.install()
    await opened(live_server, page)
    polls: list[str] = []
    page.on("response", lambda got: polls.append(got.url) if "batch" in got.url else None)
    options = {"pollInterval": 2_000}
    await show(page, ["Inventory", {"id": "a", "product": "cube", "options": options}])
    await becomes(page, "a", "it.inventory")
    for _ in range(10):
        async with page.expect_response("**/batch"):
            await page.clock.run_for(2_300)


async def test_use_product_updates_keeps_its_contract(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=42, variants={"cube-black": 5, "cube-white": 6})
    await opened(live_server, page)
    await show(
        page,
        ["Updates", {"id": "whole", "product": "cube"}],
        ["Updates", {"id": "white", "product": "cube", "variant": "cube-white"}],
    )
    got = await becomes(page, "white", "it.stock === 6")
    assert got == {
        "stock": 6,
        "price": 4900,
        "status": "active",
        "hasUpdates": False,
        "lastUpdate": got["lastUpdate"],
    }
    await becomes(page, "whole", "it.stock === 11 && !it.hasUpdates")
    await stock.set_variant("cube-white", 0)
    await becomes(page, "white", "it.stock === 0 && it.hasUpdates")
    await becomes(page, "whole", "it.stock === 5 && it.hasUpdates")


async def test_the_feed_tells_what_happens_in_the_whole_shop(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", "lamp", most=50)
    await opened(live_server, page)
    await show(page, ["Feed", {"id": "feed"}], provider={})
    await becomes(page, "feed", "it.isConnected && it.connectionState === 'live'")
    await stock.set("lamp", 9)
    got = await becomes(page, "feed", "it.inventoryUpdates.length")
    [update] = got["inventoryUpdates"]
    assert (update["productId"], update["variantId"], update["stock"]) == ("lamp", None, 9)
    assert (update["price"], update["status"]) == (4900, "active")
    assert update["timestamp"].endswith("Z")
    await stock.status("cube", "discontinued")
    got = await becomes(page, "feed", "it.productStatusChanges.length")
    assert got["productStatusChanges"][0]["status"] == "discontinued"
    assert got["stockAlerts"] == [], "those are for the staff"
    await page.evaluate("results.feed.clearInventoryUpdates()")
    await becomes(page, "feed", "!it.inventoryUpdates.length && it.productStatusChanges.length")
    await page.evaluate("results.feed.clearProductStatusChanges()")
    await becomes(page, "feed", "!it.productStatusChanges.length")
    await page.evaluate("results.feed.clearStockAlerts()")


async def test_the_feed_can_be_of_some_products(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", "lamp", most=50, variants=None)
    await opened(live_server, page)
    await show(page, ["Feed", {"id": "feed"}], provider={"productIds": ["cube"]})
    await becomes(page, "feed", "it.isConnected")
    await stock.set("lamp", 9)
    await stock.set("cube", 8)
    got = await becomes(page, "feed", "it.inventoryUpdates.length")
    assert [each["productId"] for each in got["inventoryUpdates"]] == ["cube"]


async def test_fifty_components_are_one_connection_and_none_after_they_are_unmounted(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """No timer is left, either."""
    ids = await stock.add(*(f"unit-{number}" for number in range(50)))
    await page.add_init_script(COUNT_TIMERS)
    await opened(live_server, page)
    hooks = ["Inventory", "Updates"]
    children = [[hooks[i % 2], {"id": f"x{i}", "product": each}] for i, each in enumerate(ids)]
    await show(page, *children, ["Feed", {"id": "feed"}], provider={"productIds": list(ids)})
    await becomes(page, "x48", "it.inventory")
    await becomes(page, "x49", "it.stock === 1000")
    assert live_server.open_streams == 1
    renders = await page.evaluate("renders")
    await stock.set("unit-0", 5)
    await becomes(page, "x0", "it.inventory.availableQuantity === 5")
    assert await page.evaluate("renders") - renders <= 4, "only what shows it renders again"
    await show(page)
    await live_server.streams(0)
    await page.wait_for_function("timers.size === 0")
