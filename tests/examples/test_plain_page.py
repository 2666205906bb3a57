from pathlib import Path

from playwright.async_api import Page

from tests.support.examples import command, copied, listens, running, words
from tests.support.site import Site, Stock, shows


async def test_the_plain_page_shows_stock_and_prices_as_they_change(
    site: Site, stock: Stock, page: Page, own_port: int, tmp_path: Path
) -> None:
    await stock.add("Unit-8x8x8-Founder", most=42, price=12900)
    await stock.add("Set-Starter", most=80)
    folder = copied("plain-page", tmp_path, site.url)
    log = tmp_path / "log"
    replaced = {"8080": str(own_port), "examples/plain-page": str(folder)}
    serve = words(command("plain-page", "python3"), replaced)
    async with running(serve, log) as process:
        await listens(process, own_port)
        await page.goto(f"http://127.0.0.1:{own_port}")
        await shows(page, "connection-status", "Live")
        founder = "[product-id=Unit-8x8x8-Founder]"
        await shows(page, f"{founder} stock-indicator", "42 items available")
        await shows(page, f"{founder} live-price", "$129.00")
        await shows(page, "[product-id=Set-Starter] stock-indicator", "80 items available")

        await stock.set("Unit-8x8x8-Founder", 3)
        await stock.price("Unit-8x8x8-Founder", 9900)
        await shows(page, f"{founder} stock-indicator", "Only 3 remaining!")
        await shows(page, f"{founder} live-price", "$99.00")
        assert site.open_streams == 1
