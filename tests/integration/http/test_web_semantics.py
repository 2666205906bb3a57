"""Validators, queries and the origin of writes, as intermediaries and strangers send them."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from stream_server.inventory import rules
from stream_server.web.api import inventory
from stream_server.web.auth import Tokens
from stream_server.web.pages.unknown import prefers_html
from stream_server.web.validators import is_among
from tests.support.clients import calling
from tests.support.documented import documented_routes, routes_there_are
from tests.support.servers import Connection, Server, add_products

pytestmark = pytest.mark.ways("direct-uvloop")
ETAG = 'W/"7f3a.5.c0ffee"'
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "field",
    [
        '"7f3a.5.c0ffee"', 'W/"7f3a.5.c0ffee-gzip"', '"7f3a.5.c0ffee--gzip"',
        '"7f3a.5.c0ffee;gzip"',
        '"7f3a.5.c0ffee-br"', '"a,b", W/"7f3a.5.c0ffee"', ', ,"x" , "7f3a.5.c0ffee",', " * ",
    ],
)  # fmt: skip
def test_a_tag_is_found(field: str) -> None:
    assert is_among(ETAG, field)


@pytest.mark.parametrize(
    "field",
    [
        "", "7f3a.5.c0ffee", '"7f3a.5.c0ffee', 'w/"7f3a.5.c0ffee"', '"x,7f3a.5.c0ffee,y"',
        '"7f3a.5.c0ffee" "x"', '"7f3a.5.c0ffee"-gzip', '*, "x"', '"7f3a.5.c0ffee-gzipped"',
    ],
)  # fmt: skip
def test_another_field_names_none(field: str) -> None:
    assert not is_among(ETAG, field)


async def test_queries_that_mean_nothing_are_named(server: Server) -> None:
    async with calling(server.url) as client:
        for query in ("productids=a", "productIds[0]=a", "wait=1", "limit=1&limit=2", "x"):
            for path in ("/api/inventory", "/api/inventory/stream"):
                answer = await client.get(f"{path}?{query}")
                assert answer.status_code == 400, query
                assert query.partition("=")[0] in answer.json()["error"]["message"]
        for query in ("_=17", "productIds[]=a&productIds[]=b", "limit=1&limit=1"):
            assert (await client.get(f"/api/inventory?{query}")).status_code == 200
        assert (await client.get("/products?utm_source=x&fbclid=y&_=1")).status_code == 200


async def test_a_tag_in_the_query_waits_where_a_cache_took_off_the_field(
    server: Server, connection: Connection
) -> None:
    await add_products(connection, 1)
    await server.published(connection)
    async with calling(server.url) as client:
        etag = (await client.get("/api/inventory/unit-00000")).headers["etag"]
        lines = httpx.Headers([("If-None-Match", '"x"'), ("If-None-Match", etag)])
        answer = await client.get("/api/inventory/unit-00000", headers=lines)
        assert answer.status_code == 304
        for tag in (etag, etag.replace('W/"', "").strip('"')):
            query = {"wait": "0.05", "etag": tag}
            answer = await client.get("/api/inventory/unit-00000", params=query)
            assert answer.status_code == 200
            assert answer.elapsed.total_seconds() >= 0.05


async def test_a_batch_says_that_it_is_unchanged(server: Server) -> None:
    async with calling(server.url) as client:
        body = {"productIds": ["a"]}
        first = await client.post("/api/inventory/batch", json=body)
        etag = first.headers["etag"]
        again = await client.post("/api/inventory/batch", json={**body, "etag": etag})
        assert again.json() == {"success": True, "data": None, "unchanged": True}
        ignored = {"If-None-Match": etag}
        old = await client.post("/api/inventory/batch", json=body, headers=ignored)
        assert old.json() == first.json()


@pytest.mark.settings(allowed_origins="https://a.example", public_url="https://b.example")
async def test_a_write_is_json_and_from_a_page_that_may(server: Server) -> None:
    path, body = "/api/reservations", b"{}"
    async with calling(server.url) as client:
        for kind in ("text/plain", "text/plain; application/json", "application/json, text/plain"):
            answer = await client.post(path, content=body, headers={"Content-Type": kind})
            assert answer.status_code == 415
        assert (await client.post(path, content=body)).status_code == 415
        kind = "Application/JSON; charset=utf-8"
        assert (
            await client.post(path, content=body, headers={"Content-Type": kind})
        ).status_code == 400
        for foreign in (
            {"Origin": "https://evil.example"}, {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "https://a.example.evil.example"},
        ):  # fmt: skip
            for method, where in (
                ("POST", path),
                ("POST", f"{path}/x/extend"),
                ("DELETE", f"{path}/x"),
            ):
                answer = await client.request(method, where, headers={**JSON, **foreign})
                assert answer.status_code == 403
        for own in ("https://a.example", "https://b.example", server.url):
            answer = await client.post(path, content=body, headers={**JSON, "Origin": own})
            assert answer.status_code == 400


async def status_of_a_write(server: Server, **headers: str) -> int:
    """Of one that is refused as empty, if its page may write."""
    given = {**JSON, "Origin": "https://shop.example", **headers}
    async with calling(server.url) as client:
        return (await client.post("/api/reservations", content=b"{}", headers=given)).status_code


@pytest.mark.ways("direct-uvloop")
async def test_a_trusted_proxy_says_what_the_server_is_called(server: Server) -> None:
    assert await status_of_a_write(server) == 403
    for hosts in ("shop.example", "shop.example, inner", "inner,shop.example:443"):
        assert await status_of_a_write(server, **{"X-Forwarded-Host": hosts}) == 400
    assert await status_of_a_write(server) == 403  # it was said of that request only
    assert await status_of_a_write(server, **{"X-Forwarded-Host": "evil.example"}) == 403


@pytest.mark.settings(forwarded_allow_ips="192.0.2.1")
async def test_nobody_else_says_what_the_server_is_called(server: Server) -> None:
    assert await status_of_a_write(server, **{"X-Forwarded-Host": "shop.example"}) == 403


@pytest.mark.parametrize(
    ("accept", "is_html"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("TEXT/HTML; charset=utf-8", True), ("application/json;q=0.5, text/html", True),
        ("*/*", False), ("text/html;q=0", False), ("text/html;q=0.4, application/json", False),
        ("application/json", False), ("", False), ("text/*", False), ("text/html;q=0.5;q=0", False),
        ("text/html ; q=0.5", True), ("text/html;level=1;Q=0.4, application/json;q=0.3", True),
        ("text/html;q=2, application/json;q=0.1", False), ("text/html;q=\u0661", False),
    ],
)  # fmt: skip
def test_html_is_for_those_who_name_it(accept: str, is_html: bool) -> None:
    assert prefers_html([accept]) == is_html


async def test_a_page_is_found_with_a_slash_at_its_end(server: Server) -> None:
    async with calling(server.url) as client:
        for path, where in (
            ("/products/", "/products"),
            ("/products//?q=a%20b&q=", "/products?q=a%20b&q="),
            ("/products/a%2Fb/", "/products/a%2Fb"),
            ("/cart/", "/cart"),
        ):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (308, where)
        for path in ("//evil.example/", "//", "/api/inventory/", "/healthz/"):
            assert (await client.get(f"{server.url}{path}")).status_code == 404


async def test_who_reads_pages_gets_a_page_that_says_that_there_is_none(server: Server) -> None:
    async with calling(server.url) as client:
        html = {"Accept": "text/html"}
        answer = await client.get("/nowhere/at/all", headers=html)
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
        assert "Accept" in answer.headers["vary"]
        for path, headers in (("/nowhere", {}), ("/api/nowhere", html), ("/api", html)):
            answer = await client.get(path, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.settings(public_url="https://shop.example/stock")
async def test_a_slash_at_the_end_keeps_the_prefix(server: Server) -> None:
    async with calling(server.url) as client:
        for path in ("/stock/cart/?a=1", "/cart/?a=1"):
            assert (await client.get(path)).headers["location"] == "/stock/cart?a=1"


async def test_requests_are_counted_by_route_method_and_status(
    server: Server, connection: Connection
) -> None:
    """Whatever clients make up, there are no more series for it."""
    await add_products(connection, 2)
    await server.published(connection)
    cart = {"checkoutToken": "c", "lines": [{"productId": "unit-00000", "quantity": 1}]}
    async with calling(server.url) as client:
        for product in ("unit-00000", "unit-00001", "none"):
            await client.get(f"/api/products/{product}")
        await client.post("/api/reservations", json=cart)
        await client.post("/api/reservations", json={})
        for method in ("MKCOL", "PURGE"):
            await client.request(method, "/nowhere")
        await client.request("PURGE", "/elsewhere/at/all")
        text = (await client.get("/metrics")).text
    for route, method, status, number in (
        ("/api/products/{product_id}", "GET", 200, 2),
        ("/api/products/{product_id}", "GET", 404, 1),
        ("/api/reservations", "POST", 201, 1),
        ("/api/reservations", "POST", 400, 1),
        ("other", "other", 404, 3),
    ):
        labels = f'method="{method}",route="{route}",status="{status}"'
        assert f"stream_server_request_duration_seconds_count{{{labels}}} {number}.0" in text


async def test_the_document_has_the_routes_and_their_parameters(server: Server) -> None:
    assert documented_routes() == routes_there_are(server.app)


async def test_another_text_of_the_same_version_has_another_tag(
    server: Server, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_products(connection, 1)
    await server.published(connection)
    async with calling(server.url) as client:
        etag = (await client.get("/api/inventory/unit-00000")).headers["etag"]
        batch = (await client.get("/api/inventory?productIds=unit-00000")).headers["etag"]
        monkeypatch.setattr(rules, "stock_message", lambda *_: "as the next release says it")
        server.hub.entries["unit-00000"].json = server.hub.entries["unit-00000"].tag = None
        for path, tag in (("/unit-00000", etag), ("?productIds=unit-00000", batch)):
            answer = await client.get(f"/api/inventory{path}", headers={"If-None-Match": tag})
            assert answer.status_code == 200
            assert "as the next release says it" in answer.text


async def test_who_waits_with_a_tag_that_is_none_of_ours_does_not_spin(
    server: Server, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "_PAUSE", 0.1)
    await add_products(connection, 1)
    await server.published(connection)
    async with calling(server.url) as client:
        answer = await client.get("/api/inventory/unit-00000")
        theirs = answer.headers["etag"].replace('"', '"proxy-', 1)
        waited = {"wait": "30", "etag": theirs}
        answer = await client.get("/api/inventory/unit-00000", params=waited)
        assert answer.status_code == 200
        assert answer.elapsed.total_seconds() >= 0.1
        monkeypatch.setattr(inventory, "_MAX_WAIT", 0.1)
        headers = {"If-None-Match": answer.headers["etag"]}
        answer = await client.get("/api/inventory/unit-00000?wait=60", headers=headers)
        assert answer.status_code == 304
        answer = await client.get("/api/inventory/unit-00000?wait=61", headers=headers)
        assert answer.status_code == 400


def test_a_long_poll_ends_before_proxies_give_up() -> None:
    assert inventory._MAX_WAIT <= 45


async def test_options_says_what_may_be_done(server: Server) -> None:
    async with calling(server.url) as client:
        answer = await client.options("/api/reservations/x")
        assert (answer.status_code, answer.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS")


@pytest.mark.settings(secret_key="k" * 32, jwt_audience="stock")
async def test_a_token_for_somebody_else_is_a_401_that_says_so(server: Server) -> None:
    now, day = datetime.now(UTC), timedelta(days=1)
    for audience, reason in (("", "The token has no aud"), ("shop", "The token is for another")):
        token = Tokens("k" * 32, audience=audience).issue("anna", "admin", now=now, lifetime=day)
        async with calling(server.url) as client:
            headers = {"Authorization": f"Bearer {token}"}
            answer = await client.get("/api/admin/alerts", headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["message"].startswith(reason)
