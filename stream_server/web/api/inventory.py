"""Inventory as JSON, for clients that poll. All answers come from memory, not from the database."""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from stream_server.errors import InvalidRequest, ProductNotFound
from stream_server.streaming.hub import Hub
from stream_server.web import inputs, state
from stream_server.web.addresses import client_host
from stream_server.web.answers import success_json
from stream_server.web.compression import compress_answers
from stream_server.web.limits import IDS_A_REQUEST, limits_of
from stream_server.web.routing import Operation, Resource
from stream_server.web.state import loaded_hub
from stream_server.web.validators import MAX_TAG, if_none_match, is_among, opaque

__all__ = ["inventory_routes"]

logger = logging.getLogger(__name__)

_CACHE: Final = "no-cache"  # caches may store an answer, but must revalidate it by its ETag
_MAX_WAIT_ASKED: Final = 60.0  # seconds that a client may ask for
_MAX_WAIT: Final = 45.0  # seconds that it gets: HAProxy gives an answer 50 s, others 60 s
_PAUSE: Final = 1.0  # seconds, at most, that a client with an unknown tag waits


def inventory_routes() -> list[Resource]:
    """Returns the polling routes. They need the hub in `request.app.state`."""
    return [
        Resource(
            "/api/inventory",
            GET=Operation(compress_answers(_get_several), "productIds", "limit", "after"),
        ),
        Resource("/api/inventory/batch", POST=Operation(compress_answers(_post_batch), guard=None)),
        Resource(
            "/api/inventory/{product_id}", GET=Operation(compress_answers(_get_one), "wait", "etag")
        ),
    ]


async def _get_one(request: Request) -> ASGIApp:
    """Answers with a product; with `?wait=`, as soon as it differs from the client's tag."""
    hub = loaded_hub(request)
    product_id = request.path_params["product_id"]
    known = if_none_match(request)
    etag = _etag_of_one(hub, product_id)
    if request.scope["query_string"]:
        wait = inputs.number_in_query(
            request, "wait", default=0, min_value=0, max_value=_MAX_WAIT_ASKED
        )
        seen = _tag_in_query(request) or known
        if wait and seen is not None and not _is_older(seen, etag) and _may_wait(request):
            max_wait = _MAX_WAIT if is_among(etag, seen) else _PAUSE
            etag = await _wait_for_change(hub, request, product_id, etag, min(wait, max_wait))
    return _answer(hub, hub.json(product_id), etag, known)


def _tag_in_query(request: Request) -> str | None:
    """Returns the tag in `?etag=`, with or without quotes; None without it. Clients need this field
    because a cache may remove If-None-Match from the requests that it passes on."""
    given = inputs.optional_text(request.query_params.get("etag") or None, "etag", MAX_TAG)
    return given if given is None or '"' in given else f'"{given}"'


async def _get_several(request: Request) -> ASGIApp:
    """Answers with the products of `?productIds=`, or with a page of all products."""
    hub = loaded_hub(request)
    ids = inputs.product_ids_in_query(request)
    known = if_none_match(request)
    if ids is not None:
        for other in ("limit", "after"):
            if other in request.query_params:
                raise InvalidRequest(other, "left out if productIds is given")
        _check_ids(request, len(ids))
        return _answer_batch(hub, ids, known)
    limit = inputs.whole_in_query(request, "limit", default=100, min_value=1, max_value=500)
    _check_ids(request, limit)
    page, following = _page(hub, request.query_params.get("after", ""), limit)
    beside = {"next": following, "position": hub.position()}
    return _answer(hub, _array(hub, page), _etag_of(hub, [*page, following or ""]), known, beside)


async def _post_batch(request: Request) -> ASGIApp:
    """Answers with the products of `{productIds, etag?}`. The tag of the client's last answer is a
    field of the body, because If-None-Match does not apply to a POST (RFC 9110, section 13.1.2)."""
    body = inputs.fields(await inputs.json_body(request), "productIds", "etag")
    ids = inputs.product_ids(body.get("productIds"))
    _check_ids(request, len(ids))
    known = inputs.optional_text(body.get("etag"), "etag", MAX_TAG)
    hub = loaded_hub(request)
    found, unknown, etag = _batch(hub, ids)
    if not is_among(etag, known):
        return _answer_found(hub, found, unknown, etag, None)
    return success_json(b"null", beside={"unchanged": True, **_stale(hub)}, headers=_headers(etag))


def _check_ids(request: Request, ids: int) -> None:
    limits_of(request).check_request(request.scope, ids // IDS_A_REQUEST)


def _answer_batch(hub: Hub, ids: list[str], known: str | None) -> ASGIApp:
    return _answer_found(hub, *_batch(hub, ids), known)


def _batch(hub: Hub, ids: list[str]) -> tuple[list[str], list[str], str]:
    """Returns the known ids, the unknown ids, and the tag of an answer about both."""
    found = [product_id for product_id in ids if hub.public(product_id) is not None]
    unknown = [product_id for product_id in ids if hub.public(product_id) is None]
    return found, unknown, _etag_of(hub, [*found, "", *unknown])


def _answer_found(
    hub: Hub, found: list[str], unknown: list[str], etag: str, known: str | None
) -> ASGIApp:
    # A stream that starts at this position misses no change.
    beside = {"unknown": unknown, "position": hub.position()}
    return _answer(hub, _array(hub, found), etag, known, beside)


def _answer(
    hub: Hub,
    data: bytes,
    etag: str,
    known: str | None,
    beside: Mapping[str, object] | None = None,
) -> ASGIApp:
    if is_among(etag, known):
        return NotModified(etag)
    return success_json(data, beside={**(beside or {}), **_stale(hub)}, headers=_headers(etag))


def _stale(hub: Hub) -> Mapping[str, bool]:
    return {} if hub.is_live else {"stale": True}


def _headers(etag: str) -> Mapping[str, str]:
    return {"ETag": etag, "Cache-Control": _CACHE}


class NotModified:
    """The 304 of a poll (RFC 9110, section 15.4.5): the most frequent answer, so the cheapest."""

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


async def _wait_for_change(
    hub: Hub, request: Request, product_id: str, etag: str, seconds: float
) -> str:
    """Waits until the product's tag changes, for at most `seconds`, or until the client disconnects
    or the server drains. Returns the current tag."""
    if state.is_draining(request):
        return etag
    gone = asyncio.ensure_future(_wait_for_disconnect(request))
    place = limits_of(request).polls.enter(client_host(request.scope))
    try:
        with hub.waiting(product_id) as changed:
            async with asyncio.timeout(seconds):
                while _etag_of_one(hub, product_id) == etag:
                    change = asyncio.ensure_future(changed.wait())
                    try:
                        await asyncio.wait((change, gone), return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        change.cancel()
                    if gone.done() or state.is_draining(request):
                        break
                    changed.clear()
    except TimeoutError:
        pass
    finally:
        place.leave()
        gone.cancel()
    return _etag_of_one(hub, product_id)


def _may_wait(request: Request) -> bool:
    """Whether the client's address may have one more waiting poll."""
    if limits_of(request).polls.is_full(client_host(request.scope)):
        state.metrics(request).limited.labels("polls").inc()
        return False
    return True


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _page(hub: Hub, after: str, limit: int) -> tuple[list[str], str | None]:
    """Returns the public ids after `after`, in order, and the id after which the next page begins;
    None on the last page."""
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
    if hub.public(product_id) is None:
        raise ProductNotFound(product_id)
    return f'W/"{hub.tag(product_id)}{"" if hub.is_live else ".stale"}"'


def _etag_of(hub: Hub, ids: Iterable[str]) -> str:
    digest = blake2b(digest_size=12)
    for product_id in ids:
        tag = "" if hub.public(product_id) is None else hub.tag(product_id)
        digest.update(f"{product_id}\0{tag}\0".encode())
    return f'W/"{hub.epoch}.{digest.hexdigest()}{"" if hub.is_live else ".stale"}"'


def _is_older(seen: str, etag: str) -> bool:
    """Whether the client's tag is that of an earlier version of the product.

    A client with an earlier version gets the new one at once. A client with any other tag waits a
    moment first: a proxy may have changed the tag, or another process may have made it, and then
    the client would ask again and again without a pause.
    """
    theirs, ours = opaque(seen).split("."), opaque(etag).split(".")
    if len(theirs) < 3 or theirs[0] != ours[0]:
        return False
    version = theirs[1]
    return version.isascii() and version.isdecimal() and int(version[:20]) < int(ours[1])
