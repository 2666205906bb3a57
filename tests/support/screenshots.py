"""Pictures of the shop's pages for the README, from a running demo. See scripts/screenshots."""

import argparse
import asyncio
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright, expect

from tests.support.browsers import options, path

TOP = Path(__file__).parents[2]
IMAGES = TOP / "docs" / "images"
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 780}
STILL = ("payment", "thanks")  # these show no stock
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": DESKTOP, "color_scheme": "light"},
    "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
    "phone": {
        "viewport": PHONE,
        "color_scheme": "light",
        "is_mobile": True,
        "has_touch": True,
        "device_scale_factor": 1.5,
    },
}


async def main(folder: Path) -> None:
    async with async_playwright() as playwright, demo() as (url, _):
        browser = await playwright.chromium.launch(executable_path=path(), args=options())
        for look in LOOKS:
            await _take(browser, url, look, folder)
        await browser.close()


async def _take(browser: Browser, url: str, look: str, folder: Path) -> None:
    context = await browser.new_context(**LOOKS[look], reduced_motion="reduce")
    page = await context.new_page()

    async def picture(name: str) -> None:
        if name not in STILL:
            await expect(page.locator(".bottom connection-status")).to_have_attribute(
                "state", "live"
            )
        await page.evaluate(
            "Promise.all([...document.images].filter(i => i.loading !== 'lazy' || "
            "i.getBoundingClientRect().top < innerHeight).map(i => i.decode()))"
        )
        await page.mouse.move(0, 0)
        await page.screenshot(path=folder / f"{name}-{look}.png")

    await page.goto(url)
    await picture("home")
    await page.goto(f"{url}/products")
    await picture("products")
    await page.goto(f"{url}/products/Set-Desk")
    await picture("sold-out")
    await page.goto(f"{url}/products/Unit-8x8x8?variantId=Unit-8x8x8-walnut")
    await picture("product")
    await _add(page, "1")
    await page.goto(f"{url}/products/Insert-Drawer-8x8")
    await _add(page, "2")
    await page.goto(f"{url}/cart")
    await expect(page.locator("[data-total]")).to_contain_text("$")
    await picture("cart")
    await page.get_by_role("link", name="Check out").click()
    await expect(page.locator("[data-pay]")).to_contain_text("$")
    await picture("checkout")
    await page.locator("[data-pay]").click()
    await picture("payment")
    await page.get_by_role("button", name=re.compile(r"^Pay")).click()
    await expect(page.get_by_role("heading", name="Thank you!")).to_be_visible()
    await picture("thanks")
    await page.evaluate(SHORTAGE)
    await page.goto(f"{url}/checkout")
    await expect(page.get_by_role("heading", name="Not enough in stock")).to_be_visible()
    await picture("shortage")
    await context.close()


SHORTAGE = """
localStorage.setItem('shop-cart', JSON.stringify([
  {productId: 'Set-Desk', variantId: null, quantity: 1, name: 'Desk Set'},
  {productId: 'Insert-Bottle-8x8', variantId: null, quantity: 5, name: 'Bottle Cross 8×8'},
  {productId: 'Set-Starter', variantId: null, quantity: 1, name: 'Starter Set'},
]))
"""


async def _add(page: Page, quantity: str) -> None:
    await page.get_by_role("spinbutton", name="Quantity:").fill(quantity)
    await page.get_by_role("button", name="Add to Cart").click()
    await expect(page.locator("[data-cart-count]")).to_have_attribute("data-some", "")


@asynccontextmanager
async def demo() -> AsyncIterator[tuple[str, list[str]]]:
    """A demo without shoppers, so that the same is in stock each time: its URL, and the command
    that it tells to change stock by, without the SQL."""
    command = str(TOP / ".venv" / "bin" / "stream-server")
    process = await asyncio.create_subprocess_exec(
        command, "demo", "--port", "0", "--no-shoppers", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            async for line in process.stdout:
                text = line.decode()
                if found := re.search(r"ready: (\S+)", text):
                    url = found[1]
                if "psql" in text:
                    yield url, shlex.split(text)[:-1]
                    return
        raise SystemExit("The demo did not start")
    finally:
        process.terminate()
        await process.wait()


def folder_from_arguments(description: str | None) -> Path:
    """Where pictures go: `--folder`, made if it is missing."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--folder", type=Path, default=IMAGES)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    asyncio.run(main(folder_from_arguments(__doc__)))
