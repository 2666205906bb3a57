import json
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.support.examples import EXAMPLES, command, copied, listens, running, words
from tests.support.npm import MODULES, installed
from tests.support.site import Site, Stock


@pytest.mark.parametrize("way", ["npm start", "npm run build"])
async def test_the_react_page_shows_stock_as_it_changes(
    site: Site, stock: Stock, page: Page, own_port: int, tmp_path: Path, way: str
) -> None:
    installed("esbuild")
    await stock.add("Unit-8x8x8-Founder", most=42, price=12900, name="Founder")
    folder = copied("react", tmp_path, site.url)
    (folder / "node_modules").symlink_to(MODULES)  # what `npm install` would make
    package = folder / "package.json"
    package.write_text(package.read_text().replace("8080", str(own_port)))
    log = tmp_path / "log"
    serve = words(command("react", "npm start"), {})
    if way == "npm run build":
        async with running(way.split(), log, cwd=folder) as build:
            assert await build.wait() == 0, log.read_text()
        served = f"python3 -m http.server {own_port} --bind 127.0.0.1 --directory {folder}/www"
        serve = served.split()
    async with running(serve, log, cwd=folder) as process:
        await listens(process, own_port)
        await page.goto(f"http://127.0.0.1:{own_port}")
        await expect(page.get_by_role("heading", name="Founder")).to_be_visible()
        await expect(page.get_by_text("$129.00 · 42 available")).to_be_visible()
        await expect(page.get_by_text("We do not sell this any more.")).to_be_visible()
        await expect(page.get_by_role("status")).to_have_text("live")

        await stock.set("Unit-8x8x8-Founder", 0)
        await expect(page.get_by_text("Sold Out")).to_be_visible()
        await expect(page.get_by_role("button", name="Buy")).to_be_disabled()
        assert site.open_streams == 1

        await page.get_by_role("checkbox").uncheck()
        await stock.set("Unit-8x8x8-Founder", 1)
        await expect(page.get_by_text("Only 1 remaining!")).to_be_visible()
        assert site.open_streams == 1


def test_the_example_and_the_tests_install_the_same_versions() -> None:
    ours = json.loads((EXAMPLES.parent / "package.json").read_text())["devDependencies"]
    example = json.loads((EXAMPLES / "react" / "package.json").read_text())
    for name, version in {**example["dependencies"], **example["devDependencies"]}.items():
        assert ours[name] == version
