"""A stand-in for a payment provider, for the demo only. No money moves, but the event is the same.

`create_app` adds this page only if its caller asks for a demo, never because of a setting:
everybody who can open the page gets any reservation for free.
"""

import asyncio
import hmac
import json
import secrets
import time
import urllib.request
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qs, quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stream_server.inventory import reservations
from stream_server.web import inputs, state
from stream_server.web.links import link
from stream_server.web.pages.rendering import Pages, page
from stream_server.web.pages.shop import priced_lines
from stream_server.web.routing import Operation, Resource
from stream_server.web.state import loaded_hub
from stream_server.web.writes import refuse_foreign

__all__ = ["demo_payment_routes"]

WEBHOOK: Final = "/api/webhooks/stripe"
PATIENCE: Final = 10  # seconds
EVENTS: Final = {"pay": "checkout.session.completed", "decline": "checkout.session.expired"}


def demo_payment_routes() -> list[Resource]:
    """Returns the route of the payment page. It needs pool, hub and settings in
    `request.app.state`."""
    return [
        Resource("/demo/pay", GET=page(_show), POST=Operation(page(_pay), guard=refuse_foreign))
    ]


async def _show(request: Request) -> Response:
    """Answers with the payment page of a reservation."""
    token = inputs.text(request.query_params.get("reservation"), "reservation")
    reservation = await reservations.find(state.pool(request), token)
    if reservation["status"] == "converted":
        return _thanks(request, token)
    pages: Pages = request.app.state.pages
    lines = priced_lines(loaded_hub(request), reservation)
    return pages.answer(request, "pay.html", lines=lines, token=token)


async def _pay(request: Request) -> Response:
    """Sends the event that Stripe would send, and redirects as Stripe would."""
    form = parse_qs((await inputs.raw_body(request)).decode("utf-8", "replace"))
    token = inputs.text(form.get("reservation", [""])[0], "reservation")
    action = form.get("action", ["pay"])[0]
    if action not in EVENTS:
        raise HTTPException(400, "action must be pay or decline")
    reservation = await reservations.find(state.pool(request), token)
    if reservation["status"] != "converted":
        settings = state.settings(request)
        secret = settings.stripe_webhook_secret.get_secret_value().partition(",")[0].strip()
        body = _event(EVENTS[action], token, reservation["total"], settings.currency)
        status = await asyncio.to_thread(_post, _webhook(request), body, _signature(body, secret))
        if status != 200:
            raise HTTPException(502, "The shop did not accept the event of the payment")
    if action == "pay":
        return _thanks(request, token)
    return RedirectResponse(link(request, "/checkout?declined"), 303)


def _thanks(request: Request, token: str) -> Response:
    place = link(request, f"/thanks?{urlencode({'reservation': token})}")
    return RedirectResponse(place, 303)


def _event(kind: str, token: str, total: int, currency: str) -> bytes:
    """Returns an event with the fields that we read.

    https://docs.stripe.com/api/checkout/sessions/object
    """
    session = {
        "id": f"cs_demo_{secrets.token_hex(12)}",
        "object": "checkout.session",
        "client_reference_id": token,
        "metadata": {"reservation_token": token},
        "payment_intent": f"pi_demo_{secrets.token_hex(12)}",
        "payment_status": "paid" if kind == EVENTS["pay"] else "unpaid",
        "amount_total": total,
        "currency": currency.lower(),
    }
    event = {
        "id": f"evt_demo_{secrets.token_hex(12)}",
        "object": "event",
        "type": kind,
        "created": int(time.time()),
        "data": {"object": session},
    }
    return json.dumps(event).encode()


def _signature(body: bytes, secret: str) -> str:
    """Returns the header Stripe-Signature: https://docs.stripe.com/webhooks#verify-manually"""
    now = int(time.time())
    digest = hmac.new(secret.encode(), b"%d.%b" % (now, body), sha256).hexdigest()
    return f"t={now},v1={digest}"


def _webhook(request: Request) -> str:
    """Returns the URL of our webhook, at the address where this server listens. The headers of the
    request cannot change it."""
    host, port = request.scope["server"]
    root = quote(request.scope.get("root_path", "").rstrip("/"))
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{root}{WEBHOOK}"


def _post(url: str, body: bytes, signature: str) -> int:
    """Posts the event. Returns the status of the answer; 0 without an answer."""
    headers = {"Content-Type": "application/json", "Stripe-Signature": signature}
    outgoing = urllib.request.Request(url, body, headers)  # noqa: S310  # http, see _webhook
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(outgoing, timeout=PATIENCE) as answer:
            return int(answer.status)
    except OSError:
        return 0
