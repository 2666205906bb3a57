"""The moving picture of the README: two windows of the shop and a psql. See scripts/screenshots.

Each frame is made of screenshots of the running demo. psql runs for real, and a frame that shows
its answer is taken when both pages show the new stock; only the time between frames is chosen.
"""

import asyncio
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final, Literal

from PIL import Image
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.support.browsers import options, path
from tests.support.screenshots import demo, folder_from_arguments

PRODUCT: Final = "Set-Starter"
WIDTH, HEIGHT, BAR, GAP, TERMINAL = 560, 400, 28, 12, 170  # pixels
SIZE: Final = (2 * WIDTH + 3 * GAP, HEIGHT + TERMINAL + 2 * BAR + 3 * GAP)
PLACES: Final = ((GAP, GAP + BAR), (2 * GAP + WIDTH, GAP + BAR))
COLOURS: Final = 96

# So that name, price and stock are in sight.
BELOW_THE_HEADER: Final = """
const header = document.querySelector('body > header').getBoundingClientRect().bottom;
scrollBy(0, document.querySelector('main h1').getBoundingClientRect().top - header - 16)
"""

STAGE: Final = f"""<!doctype html><style>
body {{ background: #dfe3e8; font: 15px system-ui, sans-serif; margin: 0 }}
section {{ border-radius: 8px; box-sizing: border-box; overflow: hidden; position: absolute }}
h1 {{ background: #c3c9d1; color: #333; font: 13px/{BAR}px system-ui, sans-serif;
      height: {BAR}px; margin: 0; text-align: center }}
pre {{ background: #16191d; color: #e8eaed; font: 15px/1.45 monospace; height: {TERMINAL}px;
       box-sizing: border-box; margin: 0; padding: 10px 14px; white-space: pre-wrap }}
</style>"""


def _window(title: str, left: int, top: int, width: int, height: int, inside: str = "") -> str:
    style = f"left:{left}px;top:{top}px;width:{width}px;height:{height + BAR}px"
    return f"<section style='{style}'><h1>{title}</h1>{inside}</section>"


class Film:
    """Frames, and how long each is shown (ms)."""

    def __init__(self, stage: Page, windows: Sequence[Page]) -> None:
        self._stage = stage
        self._windows = windows
        self._frames: list[Image.Image] = []
        self._durations: list[int] = []
        self.terminal = ""

    async def frame(self, duration: int) -> None:
        """Takes a frame of the windows and the terminal as they are now."""
        left, right = (
            _window(title, place[0], GAP, WIDTH, HEIGHT)
            for title, place in zip(("A shopper", "Another shopper"), PLACES, strict=True)
        )
        text = f"<pre>{escape(self.terminal)}█</pre>"
        psql = _window("psql", GAP, HEIGHT + BAR + 2 * GAP, 2 * WIDTH + GAP, TERMINAL, text)
        await self._stage.set_content(STAGE + left + right + psql)
        picture = _image(await self._stage.screenshot())
        for page, place in zip(self._windows, PLACES, strict=True):
            picture.paste(_image(await page.screenshot()), place)
        self._frames.append(picture)
        self._durations.append(duration)

    async def type(self, text: str) -> None:
        """Types a command into the terminal."""
        for start in range(0, len(text), 6):
            self.terminal += text[start : start + 6]
            await self.frame(90)

    def save(self, file: Path) -> None:
        """Writes a GIF that repeats for ever, in the colours of its richest frame."""
        palette = self._frames[0].quantize(COLOURS)
        frames = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in self._frames]
        frames[0].save(
            file,
            save_all=True,
            append_images=frames[1:],
            duration=self._durations,
            loop=0,
            optimize=True,
        )


def _image(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


async def main(folder: Path) -> None:
    async with async_playwright() as playwright, demo() as (url, psql):
        browser = await playwright.chromium.launch(executable_path=path(), args=options())
        stage = await browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        windows = [
            await _open(browser, f"{url}/products/{PRODUCT}", "light"),
            await _open(browser, f"{url}/products/{PRODUCT}", "dark"),
        ]
        film = Film(stage, windows)
        film.terminal = "shop=> "
        await film.frame(1500)
        for change, shown in (
            ("max_quantity = sold_quantity + 3", "Only 3 remaining!"),
            ("base_price = 9900", "$99.00"),
            ("status = 'discontinued'", "Sold Out"),
        ):
            await film.type(f"update products set {change} where id = '{PRODUCT}';")
            film.terminal += "\n" + await _run(
                psql, f"update products set {change} where id = '{PRODUCT}'"
            )
            for page in windows:
                await expect(page.locator("main")).to_contain_text(shown)
                await _settle(page)
            film.terminal += "\nshop=> "
            await film.frame(2200)
        await film.frame(1500)
        film.save(folder / "live.gif")
        await browser.close()


async def _open(browser: Browser, url: str, scheme: Literal["light", "dark"]) -> Page:
    page = await browser.new_page(
        viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme, reduced_motion="reduce"
    )
    await page.goto(url)
    await expect(page.locator(".bottom connection-status")).to_have_attribute("state", "live")
    await page.evaluate(BELOW_THE_HEADER)
    return page


async def _settle(page: Page) -> None:
    await page.evaluate("new Promise(requestAnimationFrame)")


async def _run(psql: Sequence[str], sql: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *psql, sql, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return said.decode().strip()


if __name__ == "__main__":
    asyncio.run(main(folder_from_arguments(__doc__)))
