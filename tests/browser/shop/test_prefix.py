"""The shop at a path of somebody else's site: behind nginx, which takes the prefix off or leaves it
on, and mounted in another application. No request leaves the prefix and none finds nothing."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from stream_server.database.pool import Pool
from stream_server.inventory.imports.models import ImportRequest
from stream_server.inventory.imports.run import import_catalogue
from stream_server.web.pages.demo_payments import demo_payment_routes
from tests.support.ports import reserved_port
from tests.support.servers import DIRECT, app_on, started, until
from tests.support.site import recorded

SETTINGS = {"stripe_webhook_secret": "whsec_prefix"}
WAYS = ("taken off", "left on", "mounted")
NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{
    listen 127.0.0.1:{port};
    location {prefix}/ {{ proxy_pass http://127.0.0.1:{upstream}{slash}; }}
  }}
}}
"""


@asynccontextmanager
async def behind_nginx(folder: Path, prefix: str, upstream: int, slash: str) -> AsyncIterator[str]:
    nginx = shutil.which("nginx") or pytest.skip("There is no nginx here")
    with reserved_port() as port:
        place = f"http://127.0.0.1:{port}{prefix}"
        config = folder / "nginx.conf"
        config.write_text(
            NGINX.format(folder=folder, port=port, prefix=prefix, upstream=upstream, slash=slash)
        )
        process = await asyncio.create_subprocess_exec(
            nginx, "-c", str(config), "-e", str(folder / "error.log")
        )
        try:
            async with httpx.AsyncClient() as client:
                for _ in range(200):
                    try:
                        assert (await client.get(f"{place}/healthz")).status_code == 200
                        break
                    except httpx.TransportError:
                        await asyncio.sleep(0.02)
            yield place
        finally:
            process.terminate()
            await process.wait()


@pytest_asyncio.fixture(loop_scope="session", params=WAYS)
async def place(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path
) -> AsyncIterator[str]:
    """Where browsers find the shop: its URL, with the prefix."""
    prefix = "/shops/stock"
    is_mounted = request.param == "mounted"
    sample = files("stream_server") / "sample" / "catalogue.json"
    async with Pool(database_url, max_size=1) as pool:
        await import_catalogue(
            pool, sample.read_bytes(), ImportRequest(actor="test", reason="sample")
        )
    url = "" if is_mounted else f"https://shop.example{prefix}"
    given = {**SETTINGS, "public_url": url, "payment_url": f"{prefix}/demo/pay"}
    stock = app_on(database_url, **given)
    stock.router.routes.extend(demo_payment_routes())
    app = stock
    if is_mounted:

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with stock.router.lifespan_context(stock):
                yield

        app = Starlette(routes=[Mount(prefix, stock)], lifespan=lifespan)
        app.state = stock.state  # for `started`
    async with started(app, http=DIRECT) as server:
        await until(
            lambda: stock.state.hub.is_live and stock.state.pool.is_connected, "it is ready"
        )
        if is_mounted:
            yield f"{server.url}{prefix}"
            return
        slash = "/" if request.param == "taken off" else ""
        port = int(server.url.rpartition(":")[2])
        async with behind_nginx(tmp_path, prefix, port, slash) as found:
            yield found


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(browser: Browser, place: str) -> AsyncIterator[Page]:
    """A page whose every request is looked at."""
    async with await browser.new_context(locale="en-US") as context:
        asked: dict[str, int] = {}
        page = await context.new_page()
        page.on("response", lambda answer: asked.update({answer.url: answer.status}))
        async with recorded(context) as complaints:
            yield page
        assert len(asked) > 10
        assert [each for each in asked if not each.startswith(f"{place}/")] == []
        # The checkout asks what became of its hold, which a declined payment has released.
        released = f"{place}/api/reservations/"
        refused = {url: status for url, status in asked.items() if status >= 400}
        assert [each for each in refused if not each.startswith(released)] == []
        assert not [each for each in complaints if "410 (Gone)" not in each]


async def links_of(page: Page) -> set[str]:
    return set(
        await page.evaluate(
            """() => [...document.querySelectorAll('[href], [src], [action]')]
                .map((each) => each.href?.baseVal ?? each.action ?? each.href ?? each.src)"""
        )
    )


async def test_pages_ask_for_and_lead_to_nothing_outside_of_the_prefix(
    place: str, visitor: Page
) -> None:
    paths = ("/", "/products?q=felt", "/products?limit=5", "/products/Set-Desk", "/cart")
    for path in paths:
        await visitor.goto(place + path)
        if path != "/cart":
            await expect(visitor.locator(".bottom connection-status")).to_have_attribute(
                "state", "live"
            )
        links = await links_of(visitor)
        assert len(links) > 10
        assert [each for each in links if not each.startswith(f"{place}/")] == []


async def test_a_shopper_gets_from_the_search_to_the_thanks(place: str, visitor: Page) -> None:
    await visitor.goto(f"{place}/")
    await visitor.get_by_role("searchbox").fill("starter")
    await visitor.get_by_role("searchbox").press("Enter")
    await visitor.locator("[product-id=Set-Starter] h2 a").click()
    await visitor.get_by_role("button", name="Add to Cart").click()
    await visitor.get_by_role("link", name="Cart").click()
    await visitor.get_by_role("link", name="Check out").click()
    await visitor.locator("[data-pay]").click()
    await visitor.get_by_role("button", name="Decline the card").click()
    await expect(visitor.get_by_role("heading", name="did not go through")).to_be_visible()
    await visitor.get_by_role("button", name="Hold them again").click()
    await visitor.locator("[data-pay]").click()
    await visitor.get_by_role("button", name=re.compile("^Pay ")).click()
    await expect(visitor.get_by_text("Thank you!")).to_be_visible()


async def test_the_api_answers_under_the_prefix(place: str) -> None:
    lines = [{"productId": "Set-Starter", "quantity": 1}]
    async with httpx.AsyncClient() as client:
        made = await client.post(
            f"{place}/api/reservations", json={"checkoutToken": "x", "lines": lines}
        )
        assert made.status_code == 201
        held = await client.get(httpx.URL(place).join(made.headers["location"]))
        assert held.json()["data"]["status"] == "active"
        assert (await client.get(f"{place}/api/inventory/Set-Desk")).status_code == 200
        assert (await client.get(f"{place}/api/inventory/none")).status_code == 404
