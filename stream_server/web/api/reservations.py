"""Reservations, which hold stock during a checkout. Shoppers need no bearer token, but are limited
by address and size. The token of a reservation gives access to it.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from stream_server.database.shares import Work
from stream_server.database.transactions import retry
from stream_server.errors import InsufficientStock, InvalidRequest, ReservationNotFound
from stream_server.inventory import reservations
from stream_server.inventory.reservations import CartLine, Reservation
from stream_server.web import inputs, state
from stream_server.web.answers import success
from stream_server.web.api.products import with_alternatives
from stream_server.web.auth import identity_of
from stream_server.web.limits import limits_of
from stream_server.web.links import link
from stream_server.web.routing import Resource

__all__ = ["reservation_routes"]

SHOPPER: Final = "shopper"  # the actor of requests without a bearer token
NO_STORE: Final = {"Cache-Control": "no-store"}


def reservation_routes() -> list[Resource]:
    """Returns the routes of reservations. They need pool, reserver, limits and settings in
    `request.app.state`."""
    return [
        Resource("/api/reservations", POST=_reserve),
        Resource("/api/reservations/{token}", GET=_get, DELETE=_release),
        Resource("/api/reservations/{token}/extend", POST=_extend),
    ]


async def _reserve(request: Request) -> Response:
    """Reserves `{checkoutToken, lines, allowPartial?}`."""
    actor = _admit(request)
    body = inputs.fields(await inputs.json_body(request), "checkoutToken", "lines", "allowPartial")
    checkout_token = inputs.text(body.get("checkoutToken"), "checkoutToken")
    lines = inputs.cart_lines(body.get("lines"))
    allow_partial = inputs.flag(body.get("allowPartial"), "allowPartial", default=False)
    if actor == SHOPPER:
        _refuse_too_much(request, lines)
    try:
        reserver = state.reserver(request)
        reservation = await reserver.reserve(
            checkout_token, lines, allow_partial=allow_partial, actor=actor
        )
    except InsufficientStock as error:
        raise await with_alternatives(request, error) from None
    headers = {"Location": link(request, f"/api/reservations/{reservation['token']}")}
    return _answer(reservation, status=201, headers=headers)


async def _get(request: Request) -> Response:
    """Answers with a reservation."""
    limits_of(request).check_query(request)
    return _answer(await reservations.find(state.pool(request), _token(request)))


async def _extend(request: Request) -> Response:
    """Extends a reservation."""
    _admit(request)
    token = _token(request)
    hold = _hold(request)
    return _answer(
        await retry(
            lambda: reservations.extend(state.pool_for(request, Work.CHANGING), token, hold=hold)
        )
    )


async def _release(request: Request) -> Response:
    """Releases a reservation."""
    actor = _admit(request)
    token = _token(request)
    return _answer(
        await retry(
            lambda: reservations.release(state.pool_for(request, Work.CHANGING), token, actor=actor)
        )
    )


def _answer(
    reservation: Reservation, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return success(reservation, status=status, headers={**NO_STORE, **(headers or {})})


def _admit(request: Request) -> str:
    """Returns the actor. Raises HTTPException: 401 for a bad token, 429 past a shopper's rate."""
    identity = identity_of(request)
    if identity is not None:
        return identity.subject
    limits_of(request).check_reservation(request)
    return SHOPPER


def _refuse_too_much(request: Request, lines: list[CartLine]) -> None:
    """Raises InvalidRequest for more units than a shopper may reserve, HTTPException 429 past the
    rates of the address."""
    settings = state.settings(request)
    for index, line in enumerate(lines):
        if line["quantity"] > settings.max_units_per_line:
            raise InvalidRequest(
                f"lines[{index}].quantity", f"at most {settings.max_units_per_line}"
            )
    units = sum(line["quantity"] for line in lines)
    if units > settings.max_units_per_cart:
        raise InvalidRequest(
            "lines", f"at most {settings.max_units_per_cart} units in all, not {units}"
        )
    limits_of(request).check_cart(request, len(lines), units)


def _token(request: Request) -> str:
    try:
        return inputs.text(request.path_params["token"], "token")
    except InvalidRequest:
        raise ReservationNotFound from None


def _hold(request: Request) -> timedelta:
    return timedelta(minutes=state.settings(request).reservation_minutes)
