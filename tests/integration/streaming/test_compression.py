"""What goes over the wire: gzip where the client takes it, and it is worth it."""

import gzip
import zlib
from typing import Any

import httpx
import pytest

from tests.support.clients import calling, connected, get
from tests.support.servers import (
    DIRECT,
    Connection,
    Server,
    add_products,
    sell,
    serving,
    until,
)

pytestmark = pytest.mark.ways("direct-uvloop")
PACKED = {"Accept-Encoding": "gzip"}
PLAIN = {"Accept-Encoding": "identity"}


async def raw(client: httpx.AsyncClient, path: str, **given: Any) -> tuple[httpx.Response, bytes]:
    """An answer and its body as it came."""
    method = "POST" if "json" in given else "GET"
    async with client.stream(method, path, **given) as response:
        return response, b"".join([part async for part in response.aiter_raw()])


async def test_public_json_comes_by_gzip_and_is_the_same(
    server: Server, connection: Connection
) -> None:
    ids = await add_products(connection, 26)
    await server.published(connection)
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/api/inventory?limit=26", {}),
        (f"/api/inventory?productIds={','.join(ids)}", {}),
        ("/api/inventory/batch", {"json": {"productIds": ids}}),
        ("/api/products", {}),
    ]
    async with calling(server.url) as client:
        for path, given in asked:
            packed, body = await raw(client, path, headers=PACKED, **given)
            plain, whole = await raw(client, path, headers=PLAIN, **given)
            assert packed.headers["content-encoding"] == "gzip"
            assert gzip.decompress(body) == whole
            assert len(body) * 4 < len(whole)
            assert "content-encoding" not in plain.headers
            assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
            etag = packed.headers.get("etag")
            assert etag == plain.headers.get("etag")
            if etag and "json" not in given:  # a batch by POST has its tag in the body
                again, body = await raw(
                    client, path, headers={**PACKED, "If-None-Match": etag}, **given
                )
                assert (again.status_code, body) == (304, b"")
                assert again.headers["vary"] == "Accept-Encoding"


async def test_what_fits_in_a_packet_stays_as_it_is(server: Server, connection: Connection) -> None:
    (product_id,) = await add_products(connection, 1)
    await server.published(connection)
    async with calling(server.url) as client:
        response, _ = await raw(client, f"/api/inventory/{product_id}", headers=PACKED)
        assert "content-encoding" not in response.headers


async def test_a_listing_page_opens_its_stream_with_two_kilobytes(
    server: Server, connection: Connection
) -> None:
    """Head and snapshot of 24 products; then each change at once, in less than it says."""
    ids = await add_products(connection, 24)
    await server.published(connection)
    async with connected(server.port) as client:
        await client.send(get(f"/api/inventory/stream?productIds={','.join(ids)}", headers=PACKED))
        opening = await client.read_until(b"\x00\x00\xff\xff\r\n")
        client.received.clear()
        assert len(opening) < 2048
        await sell(connection, ids[0])
        update = await client.read_until(b"\x00\x00\xff\xff\r\n")
        inflate = zlib.decompressobj(wbits=-15)
        text = inflate.decompress(update.partition(b"\r\n")[2])
        assert b"inventory_updated" in text
        assert len(update) < len(text) * 0.8


async def test_streams_are_not_packed_where_that_is_switched_off(
    database_url: str, connection: Connection
) -> None:
    async with serving(database_url, http=DIRECT, stream_gzip=False) as server:
        (product_id,) = await add_products(connection, 1)
        await server.published(connection)
        async with connected(server.port) as client:
            await client.send(get(f"/api/inventory/{product_id}/stream", headers=PACKED))
            opening = await client.read_until(b"event: snapshot")
            assert b"content-encoding" not in opening.lower()
            await until(lambda: server.open_streams == 1)
