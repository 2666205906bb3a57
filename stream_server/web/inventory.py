"""Inventory as JSON, for clients that poll (R9, R10). Answered from memory, never the database."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from hashlib import blake2b

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from stream_server.errors import InvalidRequest, ProductNotFound
from stream_server.streaming.hub import Hub
from stream_server.web import inputs
from stream_server.web.compression import compressing
from stream_server.web.envelope import success
from stream_server.web.routing import Resource

_CACHE = "no-cache"  # may be stored, must be asked about: that is what the ETag is for
_LONGEST_WAIT = 60.0  # seconds


def inventory_routes() -> list[Resource]:
    """The polling routes. They find the hub in `request.app.state`."""
    return [
        Resource("/api/inventory", GET=compressing(_get_several)),
        Resource("/api/inventory/batch", POST=compressing(_post_batch)),
        Resource("/api/inventory/{product_id}", GET=compressing(_get_one)),
    ]


def loaded_hub(request: Request) -> Hub:
    """The hub. Raises HTTPException 503 until it has read the database for the first time."""
    hub: Hub = request.app.state.hub
    if not hub.is_loaded:
        raise HTTPException(503, "The inventory is being loaded", headers={"Retry-After": "1"})
    return hub


async def _get_one(request: Request) -> ASGIApp:
    hub = loaded_hub(request)
    product_id = request.path_params["product_id"]
    wait = inputs.number_in_query(request, "wait", default=0, lowest=0, highest=_LONGEST_WAIT)
    known = inputs.header(request, b"if-none-match")
    etag = _etag_of_one(hub, product_id)
    if wait and inputs.etag_matches(known, etag):
        etag = await _changed_etag(hub, request, product_id, etag, wait)
    return _answer(hub, hub.json(product_id), etag, known)


async def _get_several(request: Request) -> ASGIApp:
    hub = loaded_hub(request)
    ids = inputs.product_ids_in_query(request)
    known = inputs.header(request, b"if-none-match")
    if ids is not None:
        return _answer_batch(hub, ids, known)
    limit = int(inputs.number_in_query(request, "limit", default=100, lowest=1, highest=500))
    page, following = _page(hub, request.query_params.get("after", ""), limit)
    beside = {"next": following, "position": hub.position()}
    return _answer(hub, _array(hub, page), _etag_of(hub, [*page, following or ""]), known, beside)


async def _post_batch(request: Request) -> ASGIApp:
    body = await inputs.json_body(request)
    if not isinstance(body, dict):
        raise InvalidRequest("body", "an object with productIds")
    ids = inputs.product_ids(body.get("productIds"))
    return _answer_batch(loaded_hub(request), ids, inputs.header(request, b"if-none-match"))


def _answer_batch(hub: Hub, ids: list[str], known: str | None) -> ASGIApp:
    found = [product_id for product_id in ids if hub.public(product_id) is not None]
    unknown = [product_id for product_id in ids if hub.public(product_id) is None]
    etag = _etag_of(hub, [*found, "", *unknown])
    # From this position, a stream goes on without losing anything.
    beside = {"unknown": unknown, "position": hub.position()}
    return _answer(hub, _array(hub, found), etag, known, beside)


def _answer(
    hub: Hub,
    data: bytes,
    etag: str,
    known: str | None,
    beside: Mapping[str, object] | None = None,
) -> ASGIApp:
    if inputs.etag_matches(known, etag):
        return NotModified(etag)
    more = dict(beside or {})
    if not hub.is_live:
        more["stale"] = True
    return success(data, beside=more, headers={"ETag": etag, "Cache-Control": _CACHE})


class NotModified:
    """The most frequent answer of all, and so the cheapest (RFC 9110, 15.4.5)."""

    __slots__ = ("_etag",)

    def __init__(self, etag: str) -> None:
        self._etag = etag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"etag", self._etag.encode()),
            (b"cache-control", _CACHE.encode()),
            (b"vary", b"Accept-Encoding"),
        ]
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


async def _changed_etag(
    hub: Hub, request: Request, product_id: str, etag: str, seconds: float
) -> str:
    """Waits until the product's answer differs, for so long at most, or until the client goes."""
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        with hub.waiting(product_id) as changed:
            async with asyncio.timeout(seconds):
                while _etag_of_one(hub, product_id) == etag:
                    change = asyncio.ensure_future(changed.wait())
                    try:
                        await asyncio.wait((change, gone), return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        change.cancel()
                    if gone.done() or request.app.state.is_draining:
                        break
                    changed.clear()
    except TimeoutError:
        pass
    finally:
        gone.cancel()
    return _etag_of_one(hub, product_id)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _page(hub: Hub, after: str, limit: int) -> tuple[list[str], str | None]:
    """The next public products in the order of their ids, and where to go on, if anywhere."""
    ids = hub.sorted_ids()
    page: list[str] = []
    for index in range(bisect_right(ids, after), len(ids)):
        if hub.public(ids[index]) is not None:
            if len(page) == limit:
                return page, page[-1]
            page.append(ids[index])
    return page, None


def _array(hub: Hub, ids: Iterable[str]) -> bytes:
    return b"[%b]" % b",".join(map(hub.json, ids))


def _etag_of_one(hub: Hub, product_id: str) -> str:
    product = hub.public(product_id)
    if product is None:
        raise ProductNotFound(product_id)
    return f'W/"{hub.epoch}.{product.version}{"" if hub.is_live else ".stale"}"'


def _etag_of(hub: Hub, ids: Iterable[str]) -> str:
    digest = blake2b(digest_size=12)
    for product_id in ids:
        product = hub.public(product_id)
        version = product.version if product else 0
        digest.update(f"{product_id}\0{version}\0".encode())
    return f'W/"{hub.epoch}.{digest.hexdigest()}{"" if hub.is_live else ".stale"}"'
