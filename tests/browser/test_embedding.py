"""docs/embedding.md as somebody would follow it: its examples, on a page of another origin."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.support.ports import reserved_port
from tests.support.react import react_modules
from tests.support.site import TOP, Site, Stock, shows

DOCUMENT = (TOP / "docs" / "embedding.md").read_text()
PRODUCT = "Unit-8x8x8-Founder"


def examples(kind: str) -> list[str]:
    """The code of a kind in the document, in order."""
    return re.findall(rf"```{kind}\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"allowed_origins": "*"}


@pytest_asyncio.fixture(loop_scope="session")
async def shop(database_url: str, live_server: Site) -> AsyncIterator[Site]:
    """Another origin: the shop whose page it is. Only its pages are used, not its API."""
    with reserved_port() as port:
        other = Site(database_url, port)
        other.policy = ""
        await other.start()
        yield other
        await other.stop()


async def test_three_lines_make_a_plain_page_live(
    live_server: Site, shop: Site, stock: Stock, page: Page
) -> None:
    await stock.add(PRODUCT, most=42)
    lines = examples("html")[0].replace("https://stock.example", live_server.url)
    assert len(lines.strip().splitlines()) == 3
    await page.goto(shop.add("page.html", f"<!doctype html><title>shop</title>{lines}"))
    await shows(page, "stock-indicator", "42 available")
    await shows(page, "connection-status", "Live")
    await stock.set(PRODUCT, 3)
    await shows(page, "stock-indicator", "Only 3 remaining!")
    assert (live_server.open_streams, shop.open_streams) == (1, 0)


async def test_the_other_examples_of_a_plain_page_run_too(
    live_server: Site, shop: Site, stock: Stock, page: Page
) -> None:
    await stock.add(PRODUCT, most=42, name="Founder")
    css = examples("css")[0]
    listener, store = (each.replace("https://stock.example", live_server.url)
                       for each in examples("js")[:2])  # fmt: skip
    shop.add("plain.css", css)
    shop.add("plain.js", f"window.cart = {{add: async (...a) => (window.added = a)}};\n{listener}")
    shop.add("store.js", f"{store}\nwindow.stock = stock; window.stop = stop;")
    tag = examples("html")[0].replace("https://stock.example", live_server.url)
    await page.goto(
        shop.add(
            "page.html",
            '<!doctype html><title>shop</title><link rel="stylesheet" href="plain.css">'
            f'<script type="module" src="plain.js"></script>{tag}'
            f'<add-to-cart product-id="{PRODUCT}"></add-to-cart>'
            '<script type="module" src="store.js"></script>',
        )
    )
    await page.get_by_role("button", name="Add to Cart").click()
    await page.wait_for_function("() => window.added")
    assert await page.evaluate("added") == [PRODUCT, 1]
    assert await page.evaluate(f"stock.get('{PRODUCT}').availableQuantity") == 42
    await stock.set(PRODUCT, 0)
    await shows(page, "stock-indicator", "Sold Out")
    badge = "document.querySelector('stock-indicator').shadowRoot.querySelector('[part=badge]')"
    assert await page.evaluate(f"getComputedStyle({badge}).borderRadius") == "0px"
    assert live_server.open_streams == 1, "the store and the elements share it"


@pytest.mark.parametrize("way", ["given", "by import map"])
async def test_the_react_example_runs(
    live_server: Site, shop: Site, stock: Stock, page: Page, way: str
) -> None:
    await stock.add(PRODUCT, most=42)
    for name, source in react_modules().items():
        shop.add(name, source)
    code = examples("js")[2].replace("https://stock.example", live_server.url)
    if way == "by import map":
        code = re.sub(
            r"import \{ createHooks.*createHooks\(React\);",
            f"import {{ useInventory }} from '{live_server.url}/client/react.js';",
            code,
            flags=re.DOTALL,
        )
    shop.add("stock.js", code)
    shop.add(
        "app.js",
        "import * as React from 'react';\nimport { createRoot } from './react-dom-client.js';\n"
        "import { Stock } from './stock.js';\n"
        "createRoot(document.body.firstElementChild)"
        f".render(React.createElement(Stock, {{productId: '{PRODUCT}'}}));",
    )
    await page.goto(
        shop.add(
            "page.html",
            "<!doctype html><title>shop</title>"
            '<script type="importmap">{"imports": {"react": "/pages/react.js"}}</script>'
            '<body><div></div><script type="module" src="app.js"></script>',
        )
    )
    await expect(page.get_by_text("42 available")).to_be_visible()
    await stock.set(PRODUCT, 1)
    await expect(page.get_by_text("Only 1 remaining!")).to_be_visible()
    assert live_server.open_streams == 1
