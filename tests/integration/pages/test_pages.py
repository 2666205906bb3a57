"""The shop's pages as a server renders them, without a browser."""

import hmac
import json
import re
from collections.abc import AsyncIterator
from hashlib import sha256
from importlib.resources import files
from typing import Any

import httpx
import pytest

from stream_server.app import create_app
from stream_server.database.pool import Pool
from stream_server.inventory.imports.models import ImportRequest
from stream_server.inventory.imports.run import import_catalogue
from stream_server.settings import Settings
from stream_server.web.pages.demo_payments import _signature, demo_payment_routes
from tests.support.clients import calling
from tests.support.servers import DIRECT, Server, serving, until

SECRET = "whsec_pages"


@pytest.fixture
async def shop(database_url: str) -> AsyncIterator[Server]:
    """A server with the sample catalogue."""
    sample = files("stream_server") / "sample" / "catalogue.json"
    async with Pool(database_url, max_size=1) as pool:
        await import_catalogue(
            pool, sample.read_bytes(), ImportRequest(actor="test", reason="sample")
        )
    given: dict[str, Any] = {"stripe_webhook_secret": SECRET, "payment_url": "/demo/pay"}
    async with serving(database_url, http=DIRECT, **given) as server:
        yield server


@pytest.fixture
async def client(shop: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(shop.url) as client:
        yield client


PAGES = ("/", "/products", "/products?q=felt", "/products/Set-Desk", "/cart", "/checkout", "/nope")


async def hold(client: httpx.AsyncClient, product_id: str = "Set-Starter") -> str:
    lines = [{"productId": product_id, "quantity": 1}]
    body = {"checkoutToken": product_id, "lines": lines}
    return str((await client.post("/api/reservations", json=body)).json()["data"]["token"])


async def test_every_page_forbids_what_is_inline_and_has_none(client: httpx.AsyncClient) -> None:
    for path in (*PAGES[:-1], "/products/nope", f"/thanks?reservation={await hold(client)}"):
        answer = await client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy
        assert "script-src 'self';" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"
        text = answer.text
        code = r"<script(?![^>]*(?:\bsrc=|type=\"application/json\"))"
        assert not re.search(code + r"|<style|\sstyle=|\son\w+=|javascript:", text)


async def test_what_a_page_links_is_there_for_ever_and_compressed(
    client: httpx.AsyncClient,
) -> None:
    text = (await client.get("/products")).text
    linked = set(re.findall(r'(?:href|src)="(/(?:static|client|pictures)/[^"]+)"', text))
    assert len(linked) > 30
    for each in linked:
        answer = await client.get(each.replace("&amp;", "&"))
        assert answer.status_code == 200, each
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"
        for coding in ("identity", "gzip;q=0", "br"):
            plain = await client.get(
                each.replace("&amp;", "&"), headers={"Accept-Encoding": coding}
            )
            assert "content-encoding" not in plain.headers
            assert plain.content == answer.content


async def test_under_another_hash_a_file_is_not_kept(client: httpx.AsyncClient) -> None:
    for path in ("/static/old/shop.css", "/pictures/old/Set-Desk"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-cache"
    assert (await client.get("/static/old/../app.py")).status_code == 404
    assert (await client.get("/static/old/%2E%2E%2Fapp.py")).status_code == 404
    assert (await client.get(f"/pictures/old/{'x' * 201}")).status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/products/no-such", 404, "There is no product"),
        ("/products?limit=0", 400, "limit must be"),
        ("/products?limit=9999", 400, "limit must be"),
        ("/products?q=" + "x" * 201, 400, "q must be"),
        ("/products?q=%00", 400, "q must be"),
        ("/thanks", 400, "reservation must be"),
        ("/thanks?reservation=none", 404, "There is no such reservation"),
    ],
)
async def test_a_mistake_is_answered_with_a_page(
    client: httpx.AsyncClient, path: str, status: int, text: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert text in answer.text


async def test_the_listing_is_searched_and_paged(client: httpx.AsyncClient) -> None:
    text = (await client.get("/products?limit=10")).text
    seen = re.findall(r'<article class="card" product-id="([^"]+)"', text)
    assert len(seen) == 10
    while following := re.search(r'href="(/products\?[^"]*after[^"]*)"', text):
        text = (await client.get(following[1].replace("&amp;", "&"))).text
        seen += re.findall(r'<article class="card" product-id="([^"]+)"', text)
    assert len(seen) == len(set(seen)) == 26
    text = (await client.get("/products?q=panel&category=Materials")).text
    assert len(re.findall('<article class="card"', text)) == 6
    text = (await client.get("/products?q=%25")).text
    assert "No products match" in text


async def test_the_product_page_says_what_there_is(client: httpx.AsyncClient) -> None:
    text = (await client.get("/products/Unit-8x8x8-Founder")).text
    assert "Limited Edition" in text
    assert "1,000 pieces" in text
    assert "Requires Assembly" in text
    assert "250 items available" in text
    text = (await client.get("/products/Unit-8x16x16?variantId=Unit-8x16x16-oak")).text
    assert "Oak - Sold Out" in text
    text = (await client.get("/products/Material-8x8-V")).text
    assert "In Stock" in text
    assert 'max="1000"' in text


async def test_a_draft_has_no_page(shop: Server, client: httpx.AsyncClient) -> None:
    async with Pool(shop.app.state.settings.database_url.get_secret_value(), max_size=1) as pool:
        await pool.execute("update products set status = 'draft' where id = 'Set-Desk'")
    await until(lambda: shop.hub.public("Set-Desk") is None)
    assert (await client.get("/products/Set-Desk")).status_code == 404
    assert "Set-Desk" not in (await client.get("/products")).text


async def test_only_a_demo_can_be_paid_for_nothing(shop: Server, client: httpx.AsyncClient) -> None:
    token = await hold(client)
    assert (await client.get(f"/demo/pay?reservation={token}")).status_code == 404
    assert (await client.post("/demo/pay", data={"reservation": token})).status_code == 404
    settings = Settings.load({"database_url": "postgresql://nowhere/shop"})
    paths = [getattr(each, "path", "") for each in create_app(settings).routes]
    assert "/demo/pay" not in paths
    paths = [getattr(each, "path", "") for each in create_app(settings, is_demo=True).routes]
    assert "/demo/pay" in paths


async def test_the_demo_pays_by_the_webhook(shop: Server, client: httpx.AsyncClient) -> None:
    shop.app.router.routes.extend(demo_payment_routes())
    token = await hold(client)
    page = await client.get(f"/demo/pay?reservation={token}")
    assert "Pay $139.00" in page.text
    paid = await client.post("/demo/pay", data={"reservation": token, "action": "pay"})
    assert paid.status_code == 303
    assert paid.headers["location"] == f"/thanks?reservation={token}"
    assert "Thank you!" in (await client.get(paid.headers["location"])).text
    assert shop.metric("webhooks_total", result="handled") == 1
    again = await client.post("/demo/pay", data={"reservation": token, "action": "pay"})
    assert again.status_code == 303
    assert shop.metric("webhooks_total", result="handled") == 1


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({}, 400),
        ({"reservation": "none"}, 404),
        ({"reservation": "\x00"}, 400),
        ({"action": "steal"}, 400),
    ],
)
async def test_the_demo_refuses_what_is_no_payment(
    shop: Server, client: httpx.AsyncClient, form: dict[str, str], status: int
) -> None:
    shop.app.router.routes.extend(demo_payment_routes())
    if "action" in form:
        form = {**form, "reservation": await hold(client)}
    assert (await client.post("/demo/pay", data=form)).status_code == status


def test_a_signature_is_stripes() -> None:
    body = json.dumps({"id": "evt"}).encode()
    moment, digest = re.fullmatch(r"t=(\d+),v1=(\w{64})", _signature(body, SECRET)).groups()  # type: ignore[union-attr]  # a test fails on None
    assert digest == hmac.new(SECRET.encode(), f"{moment}.".encode() + body, sha256).hexdigest()


SHOP = files("stream_server") / "static" / "shop"
TEMPLATES = files("stream_server") / "templates"


def test_no_template_and_no_script_has_a_path_without_its_prefix() -> None:
    """A page that is added later cannot forget it."""
    for each in TEMPLATES.iterdir():
        written = re.findall(
            r'(?:href|src|action|srcset|data-[\w-]+)="\s*(/[^"]*)"', each.read_text()
        )
        assert written == [], each.name
    for each in SHOP.iterdir():
        if each.name.endswith(".js"):
            text = re.sub(r"link\(\s*['`\"]/|from '/client/|await ask\(`/", "", each.read_text())
            assert not re.search(r"['`\"]/\w", text), each.name
        if each.name.endswith(".css"):
            assert "url(" not in each.read_text(), each.name
