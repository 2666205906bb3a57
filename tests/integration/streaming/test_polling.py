"""Inventory as JSON, for pages that poll, and what wrong requests are told."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.support.clients import Raw, calling, connected, get
from tests.support.servers import Connection, Server, add_products, sell, until

pytestmark = pytest.mark.ways("direct-uvloop")

JSON = dict[str, Any]


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def accepts(data: JSON, *, is_variant: bool = False) -> bool:
    """A's zod schemas ProductInventorySchema and VariantInventorySchema, as written there."""
    names = ("variantId", "variantValue") if is_variant else ("productId",)
    return (
        all(isinstance(data[name], str) for name in names)
        and (data["maxQuantity"] is None or is_number(data["maxQuantity"]))
        and is_number(data["soldQuantity"])
        and (data["availableQuantity"] is None or is_number(data["availableQuantity"]))
        and isinstance(data["isAvailable"], bool)
        and (
            "variants" not in data
            or all(accepts(each, is_variant=True) for each in data["variants"])
        )
    )


def error(response: httpx.Response, status: int, code: str) -> JSON:
    """The error of an answer in the one envelope."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"success", "error"}
    assert body["success"] is False
    assert body["error"].keys() <= {"code", "message", "details"}
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    fault: JSON = body["error"]
    return fault


@pytest.fixture
async def shop(server: Server, connection: Connection) -> Server:
    """Three products; one has variants, one is unlimited, one is a draft."""
    await connection.execute(
        "insert into products (id, name, base_price, max_quantity, status) values"
        " ('founder', 'Founder', 9900, 1000, 'active'), ('material', 'Oak', 500, null, 'active'),"
        " ('draft', 'Soon', 1, 1, 'draft')"
    )
    await connection.execute(
        "insert into variants (id, product_id, variant_value, max_quantity)"
        " values ('founder-oak', 'founder', 'Oak', 8)"
    )
    await server.published(connection)
    return server


async def test_one_product_satisfies_the_storefronts_schema(shop: Server) -> None:
    async with calling(shop.url) as client:
        for product_id, has_variants in (("founder", True), ("material", False)):
            response = await client.get(f"/api/inventory/{product_id}")
            assert response.status_code == 200
            body = response.json()
            assert body.keys() == {"success", "data"}
            assert body["success"] is True
            assert accepts(body["data"])
            assert ("variants" in body["data"]) is has_variants
        founder = (await client.get("/api/inventory/founder")).json()["data"]
    assert (founder["maxQuantity"], founder["availableQuantity"], founder["stock"]) == (1000, 8, 8)
    assert founder["isLowStock"] is True
    assert founder["stockMessage"] == "Only 8 remaining!"
    assert body["data"]["availableQuantity"] is None
    assert body["data"]["stockMessage"] == "In Stock"


async def test_unknown_products_and_drafts_are_not_found(shop: Server) -> None:
    async with calling(shop.url) as client:
        for product_id in ("missing", "draft"):
            for path in (f"/api/inventory/{product_id}", f"/api/inventory/{product_id}/stream"):
                fault = error(await client.get(path), 404, "product_not_found")
                assert product_id in json.dumps(fault)
        error(await client.get("/api/nothing"), 404, "not_found")
        error(await client.get("/api/inventory/"), 404, "not_found")


async def test_a_batch_leaves_out_and_names_what_is_unknown(shop: Server) -> None:
    """By POST and by query."""
    ids = ["material", "missing", "founder", "draft", "material"]
    async with calling(shop.url) as client:
        posted = await client.post("/api/inventory/batch", json={"productIds": ids})
        queried = await client.get("/api/inventory", params={"productIds": ",".join(ids)})
        assert posted.status_code == queried.status_code == 200
        assert posted.json() == queried.json()
        body = posted.json()
        assert [each["productId"] for each in body["data"]] == ["material", "founder"]
        assert body["unknown"] == ["missing", "draft"]
        empty = await client.post("/api/inventory/batch", json={"productIds": []})
        assert (empty.json()["data"], empty.json()["unknown"]) == ([], [])


async def test_the_whole_catalogue_comes_in_pages(server: Server, connection: Connection) -> None:
    ids = await add_products(connection, 5)
    await connection.execute("update products set status = 'draft' where id = 'unit-00001'")
    await server.published(connection)
    ids.remove("unit-00001")
    async with calling(server.url) as client:
        whole = (await client.get("/api/inventory")).json()
        assert [each["productId"] for each in whole["data"]] == ids
        assert whole["next"] is None
        first = (await client.get("/api/inventory?limit=2")).json()
        assert [each["productId"] for each in first["data"]] == ids[:2]
        second = (await client.get(f"/api/inventory?limit=2&after={first['next']}")).json()
        assert [each["productId"] for each in second["data"]] == ids[2:]
        assert second["next"] is None
        for limit in ("0", "501", "x", "nan"):
            fault = error(
                await client.get("/api/inventory", params={"limit": limit}), 400, "invalid_request"
            )
            assert "limit" in json.dumps(fault)


async def test_a_page_that_gets_a_successor_is_not_unchanged(
    server: Server, connection: Connection
) -> None:
    await add_products(connection, 2)
    await server.published(connection)
    async with calling(server.url) as client:
        first = await client.get("/api/inventory?limit=2")
        assert first.json()["next"] is None
        await add_products(connection, 1, "unit-1")
        await server.published(connection)
        again = await client.get(
            "/api/inventory?limit=2", headers={"If-None-Match": first.headers["etag"]}
        )
        assert again.status_code == 200
        assert again.json()["next"] == "unit-00001"


async def test_what_has_not_changed_is_304_until_it_changes(
    shop: Server, connection: Connection
) -> None:
    paths = ["/api/inventory/founder", "/api/inventory", "/api/inventory?productIds=founder,x"]
    async with calling(shop.url) as client:
        etags = {}
        for path in paths:
            first = await client.get(path)
            etag = etags[path] = first.headers["etag"]
            assert etag.startswith('W/"')
            assert first.headers["cache-control"] == "no-cache"
            for known in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
                response = await client.get(path, headers={"If-None-Match": known})
                assert response.status_code == 304
                assert response.headers["etag"] == etag
                assert response.content == b""
        await sell(connection, "founder")
        await shop.published(connection)
        for path in paths:
            response = await client.get(path, headers={"If-None-Match": etags[path]})
            assert response.status_code == 200
            assert response.headers["etag"] != etags[path]


async def test_head_says_what_get_says_without_a_body(shop: Server) -> None:
    async with calling(shop.url) as client:
        for path in ("/api/inventory/founder", "/api/inventory", "/healthz"):
            head, whole = await client.head(path), await client.get(path)
            assert head.status_code == 200
            assert head.content == b""
            for name in ("content-type", "content-length", "etag"):
                assert head.headers.get(name) == whole.headers.get(name)


async def test_a_waiting_poll_is_answered_by_the_change(
    shop: Server, connection: Connection
) -> None:
    async with calling(shop.url) as client:
        etag = (await client.get("/api/inventory/founder")).headers["etag"]
        known = {"If-None-Match": etag}
        waiting = asyncio.create_task(client.get("/api/inventory/founder?wait=60", headers=known))
        await until(lambda: shop.hub.waiters, "the poll waits")
        assert shop.open_streams == 0
        await sell(connection, "material")
        await shop.published(connection)
        assert not waiting.done()
        await sell(connection, "founder", 3)
        response = await waiting
        assert response.status_code == 200
        assert response.json()["data"]["soldQuantity"] == 3
        assert not shop.hub.waiters
        at_once = await client.get("/api/inventory/founder?wait=60", headers=known)
        assert at_once.status_code == 200


async def test_a_poll_waits_no_longer_than_it_said(shop: Server) -> None:
    async with calling(shop.url) as client:
        etag = (await client.get("/api/inventory/founder")).headers["etag"]
        response = await client.get(
            "/api/inventory/founder?wait=0.05", headers={"If-None-Match": etag}
        )
        assert response.status_code == 304
        assert (await client.get("/api/inventory/founder?wait=60")).status_code == 200
        for wait in ("-1", "61", "x", "inf"):
            response = await client.get(f"/api/inventory/founder?wait={wait}")
            assert "wait" in json.dumps(error(response, 400, "invalid_request"))
        assert not shop.hub.waiters


async def test_a_waiter_whose_client_is_gone_is_freed(shop: Server) -> None:
    async with calling(shop.url) as client:
        etag = (await client.get("/api/inventory/founder")).headers["etag"]
    for go in (Raw.reset, lambda raw: raw.writer.close()):
        async with connected(shop.port) as raw:
            await raw.send(get("/api/inventory/founder?wait=60", headers={"If-None-Match": etag}))
            await until(lambda: shop.hub.waiters, "the poll waits")
            go(raw)
            await until(lambda: not shop.hub.waiters, "the waiter is freed")


BAD_BATCHES: list[tuple[Any, str]] = [
    ({}, "productIds"),
    ({"productIds": None}, "productIds"),
    ({"productIds": "founder"}, "productIds"),
    ({"productIds": {"0": "founder"}}, "productIds"),
    ({"productIds": ["founder", 5]}, "productIds[1]"),
    ({"productIds": [["founder"]]}, "productIds[0]"),
    ({"productIds": [""]}, "productIds[0]"),
    ({"productIds": ["x" * 201]}, "productIds[0]"),
    ({"productIds": ["x"] * 501}, "productIds"),
    (["founder"], "body"),
]


async def test_a_wrong_batch_is_400_with_the_fields_name(server: Server) -> None:
    async with calling(server.url) as client:
        for body, field in BAD_BATCHES:
            response = await client.post("/api/inventory/batch", json=body)
            fault = error(response, 400, "invalid_request")
            assert field in fault["message"], body
        for body in ({}, {"productIds": "founder"}):
            response = await client.post("/api/inventory/batch", json=body)
            assert "productIds must be an array" in response.json()["error"]["message"]


async def test_500_ids_are_not_too_many(server: Server) -> None:
    ids = [f"x{number}" for number in range(500)]
    async with calling(server.url) as client:
        response = await client.post("/api/inventory/batch", json={"productIds": ids})
        assert response.json()["unknown"] == ids


NO_JSON = [
    b"", b"{", b"nonsense", b'{"productIds": ["a",]}', b'{"productIds": NaN}',
    b'{"productIds": [Infinity]}', b"\xff\xfe\x00", b'{"productIds": ["\xff"]}', b"[" * 100_000,
    b'{"productIds": ["\\ud800"]}', b'{"productIds": ["\xed\xa0\x80"]}', b"1" * 5000,
    '{"productIds": ["a"]}'.encode("utf-16"), '{"productIds": ["a"]}'.encode("utf-32"),
]  # fmt: skip


async def test_what_is_not_json_is_400(server: Server) -> None:
    async with calling(server.url) as client:
        for body in NO_JSON:
            error(await client.post("/api/inventory/batch", content=body), 400, "invalid_request")


async def test_a_body_over_a_mebibyte_is_413_however_it_comes(server: Server) -> None:
    async def in_chunks() -> Any:
        for _ in range(17):
            yield b" " * 65_536

    async with calling(server.url) as client:
        announced = await client.post("/api/inventory/batch", content=b" " * (1024 * 1024 + 1))
        error(announced, 413, "body_too_large")
        error(await client.post("/api/inventory/batch", content=in_chunks()), 413, "body_too_large")
        fits = b'{"productIds": []' + b" " * (1024 * 1024 - 18) + b"}"
        assert (await client.post("/api/inventory/batch", content=fits)).status_code == 200
    async with connected(server.port) as raw:  # the length alone is enough
        head = (
            b"POST /api/inventory/batch HTTP/1.1\r\nHost: shop\r\nContent-Length: 99999999999\r\n"
        )
        await raw.send(head + b"\r\n")
        assert (await raw.read_until(b"body_too_large")).startswith(b"HTTP/1.1 413 ")


async def test_an_encoded_body_or_a_form_is_415(server: Server) -> None:
    body = b'{"productIds": []}'
    async with calling(server.url) as client:
        for headers in (
            {"Content-Encoding": "gzip"},
            {"Content-Encoding": "identity, br"},
            {"Content-Type": "Multipart/Form-Data; boundary=x"},
        ):
            answer = await client.post("/api/inventory/batch", content=body, headers=headers)
            error(answer, 415, "unsupported_media_type")
        plain = {"Content-Encoding": "identity", "Content-Type": "application/json"}
        answer = await client.post("/api/inventory/batch", content=body, headers=plain)
        assert answer.status_code == 200


async def test_a_wrong_method_is_told_the_right_ones(server: Server) -> None:
    async with calling(server.url) as client:
        for method, path, allowed in (
            ("DELETE", "/api/inventory/x", "GET, HEAD, OPTIONS"),
            ("POST", "/api/inventory", "GET, HEAD, OPTIONS"),
            ("GET", "/api/inventory/batch", "OPTIONS, POST"),
            ("POST", "/api/inventory/stream", "GET, HEAD, OPTIONS"),
            ("PUT", "/api/inventory/x/stream", "GET, HEAD, OPTIONS"),
            ("POST", "/healthz", "GET, HEAD, OPTIONS"),
        ):
            response = await client.request(method, path)
            error(response, 405, "method_not_allowed")
            assert response.headers["allow"] == allowed


async def test_wrong_ids_of_a_stream_are_400(server: Server) -> None:
    async with calling(server.url) as client:
        for query in ("productIds=", "productIds=,,", "productIds=" + "x" * 201):
            for path in ("/api/inventory/stream", "/api/inventory"):
                fault = error(await client.get(f"{path}?{query}"), 400, "invalid_request")
                assert "productIds" in fault["message"]
        many = ",".join(map(str, range(501)))
        error(await client.get(f"/api/inventory/stream?productIds={many}"), 400, "invalid_request")


async def test_head_on_a_stream_opens_nothing(shop: Server) -> None:
    async with calling(shop.url) as client:
        for path in ("/api/inventory/founder/stream", "/api/inventory/stream"):
            response = await client.head(path)
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.content == b""
            assert shop.metric("open_streams", kind="product") == 0
        assert (await client.head("/api/inventory/missing/stream")).status_code == 404
    assert shop.open_streams == 0


async def test_pages_of_allowed_origins_may_read(server: Server) -> None:
    async with calling(server.url) as client:
        response = await client.get("/api/inventory", headers={"Origin": "https://shop.example"})
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.settings(allowed_origins="https://shop.example")
async def test_streams_carry_the_headers_of_every_middleware(
    shop: Server, connection: Connection
) -> None:
    origin = {"Origin": "https://shop.example"}
    async with (
        calling(shop.url) as client,
        client.stream("GET", "/api/inventory/founder/stream", headers=origin) as stream,
    ):
        assert stream.headers["access-control-allow-origin"] == "https://shop.example"
        response = await client.get("/api/inventory/missing", headers=origin)
        assert response.headers["access-control-allow-origin"] == "https://shop.example"
