"""Holding stock during a checkout (R20, R22), by shoppers: without a token of authentication, but
limited by address and size. A reservation's own token is what gives access to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from stream_server.database.pool import Pool, Share
from stream_server.database.shares import Work
from stream_server.database.transactions import retry
from stream_server.errors import InsufficientStock, InvalidRequest, ReservationNotFound
from stream_server.inventory import reservations
from stream_server.inventory.reservations import CartLine, Reservation
from stream_server.inventory.reserver import Reserver
from stream_server.settings import Settings
from stream_server.streaming.frames import to_json
from stream_server.web import inputs
from stream_server.web.answers import success
from stream_server.web.api.products import with_alternatives
from stream_server.web.auth import identified
from stream_server.web.limits import limits_of
from stream_server.web.links import link
from stream_server.web.routing import Resource

__all__ = ["cart_lines", "checkout_routes"]

SHOPPER = "shopper"  # the actor of those who don't say who they are
NO_STORE = {"Cache-Control": "no-store"}


def checkout_routes() -> list[Resource]:
    """The routes of reservations. They find pool, reserver, limits and settings in
    `request.app.state`."""
    return [
        Resource("/api/reservations", POST=_reserve),
        Resource("/api/reservations/{token}", GET=_get, DELETE=_release),
        Resource("/api/reservations/{token}/extend", POST=_extend),
    ]


def cart_lines(given: Any) -> list[CartLine]:
    """`lines` as a client sends them: each 1 to 2147483647 units of a product or variant."""
    if not isinstance(given, list) or not 1 <= len(given) <= inputs.MAX_LINES:
        raise InvalidRequest("lines", f"an array of 1 to {inputs.MAX_LINES} lines")
    return [_cart_line(line, f"lines[{index}]") for index, line in enumerate(given)]


def _cart_line(given: Any, place: str) -> CartLine:
    if not isinstance(given, dict):
        raise InvalidRequest(place, "an object with productId and quantity")
    return {
        "productId": inputs.text(given.get("productId"), f"{place}.productId"),
        "variantId": inputs.optional_text(given.get("variantId"), f"{place}.variantId"),
        "quantity": inputs.whole(given.get("quantity"), f"{place}.quantity", 1),
    }


async def _reserve(request: Request) -> Response:
    actor = _admitted(request)
    body = inputs.fields(await inputs.json_body(request), "checkoutToken", "lines", "allowPartial")
    checkout_token = inputs.text(body.get("checkoutToken"), "checkoutToken")
    lines = cart_lines(body.get("lines"))
    allow_partial = inputs.flag(body.get("allowPartial"), "allowPartial", default=False)
    if actor == SHOPPER:
        _refuse_too_much(request, lines)
    try:
        reserver: Reserver = request.app.state.reserver
        reservation = await reserver.reserve(
            checkout_token, lines, allow_partial=allow_partial, actor=actor
        )
    except InsufficientStock as error:
        raise await with_alternatives(request, error) from None
    headers = {"Location": link(request, f"/api/reservations/{reservation['token']}")}
    return _answer(reservation, status=201, headers=headers)


async def _get(request: Request) -> Response:
    return _answer(await reservations.find(request.app.state.pool, _token(request)))


async def _extend(request: Request) -> Response:
    _admitted(request)
    token = _token(request)
    hold = _hold(request)
    return _answer(await retry(lambda: reservations.extend(_pool(request), token, hold=hold)))


async def _release(request: Request) -> Response:
    actor = _admitted(request)
    token = _token(request)
    return _answer(await retry(lambda: reservations.release(_pool(request), token, actor=actor)))


def _answer(
    reservation: Reservation, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return success(to_json(reservation), status=status, headers={**NO_STORE, **(headers or {})})


def _admitted(request: Request) -> str:
    """Who acts; shoppers must be within their limits. Raises HTTPException 401, 429."""
    identity = identified(request)
    if identity is not None:
        return identity.subject
    limits_of(request).count_reservation(request)
    return SHOPPER


def _refuse_too_much(request: Request, lines: list[CartLine]) -> None:
    """Raises InvalidRequest for more units than a shopper may have, HTTPException 429 past the
    address' rates."""
    settings: Settings = request.app.state.settings
    for index, line in enumerate(lines):
        if line["quantity"] > settings.max_units_per_line:
            raise InvalidRequest(
                f"lines[{index}].quantity", f"{settings.max_units_per_line} at most"
            )
    units = sum(line["quantity"] for line in lines)
    if units > settings.max_units_per_cart:
        raise InvalidRequest(
            "lines", f"of {settings.max_units_per_cart} units at most in all, not {units}"
        )
    limits_of(request).count_cart(request, len(lines), units)


def _token(request: Request) -> str:
    try:
        return inputs.text(request.path_params["token"], "token")
    except InvalidRequest:
        raise ReservationNotFound from None


def _hold(request: Request) -> timedelta:
    return timedelta(minutes=request.app.state.settings.reservation_minutes)


def _pool(request: Request) -> Share:
    pool: Pool = request.app.state.pool
    return pool.doing(Work.CHANGING)
