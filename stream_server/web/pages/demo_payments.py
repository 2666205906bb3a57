"""In place of a payment provider, for the demo only: no money, but the same signed event.

`create_app` routes this if it is asked to make a demo, and never by a setting: whoever can open
this page can have any reservation for nothing.
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
from stream_server.web.routing import Resource, Taking
from stream_server.web.state import loaded_hub
from stream_server.web.writes import refuse_foreign

__all__ = ["demo_payment_routes"]

WEBHOOK: Final = "/api/webhooks/stripe"
PATIENCE: Final = 10  # seconds
EVENTS: Final = {"pay": "checkout.session.completed", "decline": "checkout.session.expired"}


def demo_payment_routes() -> list[Resource]:
    """The payment page. It finds pool, hub and settings in `request.app.state`."""
    return [Resource("/demo/pay", GET=page(_show), POST=Taking(page(_pay), guard=refuse_foreign))]


async def _show(request: Request) -> Response:
    token = inputs.text(request.query_params.get("reservation"), "reservation")
    reservation = await reservations.find(state.pool(request), token)
    if reservation["status"] == "converted":
        return _thanks(request, token)
    pages: Pages = request.app.state.pages
    lines = priced_lines(loaded_hub(request), reservation)
    return pages.answer(request, "pay.html", lines=lines, token=token)


async def _pay(request: Request) -> Response:
    """Sends the event that Stripe would send, and leads on as Stripe would."""
    form = parse_qs((await inputs.raw_body(request)).decode("utf-8", "replace"))
    token = inputs.text(form.get("reservation", [""])[0], "reservation")
    action = form.get("action", ["pay"])[0]
    if action not in EVENTS:
        raise HTTPException(400, "A payment is made or declined")
    reservation = await reservations.find(state.pool(request), token)
    if reservation["status"] != "converted":
        settings = state.settings(request)
        secret = settings.stripe_webhook_secret.get_secret_value().partition(",")[0].strip()
        body = _event(EVENTS[action], token, reservation["total"], settings.currency)
        status = await asyncio.to_thread(_post, _webhook(request), body, _signature(body, secret))
        if status != 200:
            raise HTTPException(502, "The payment could not be told to the shop")
    if action == "pay":
        return _thanks(request, token)
    return RedirectResponse(link(request, "/checkout?declined"), 303)


def _thanks(request: Request, token: str) -> Response:
    place = link(request, f"/thanks?{urlencode({'reservation': token})}")
    return RedirectResponse(place, 303)


def _event(kind: str, token: str, total: int, currency: str) -> bytes:
    """https://docs.stripe.com/api/checkout/sessions/object, as far as we look at it."""
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
    """https://docs.stripe.com/webhooks#verify-manually"""
    now = int(time.time())
    digest = hmac.new(secret.encode(), b"%d.%b" % (now, body), sha256).hexdigest()
    return f"t={now},v1={digest}"


def _webhook(request: Request) -> str:
    """Where this server listens, which no header of a request has a say in."""
    host, port = request.scope["server"]
    root = quote(request.scope.get("root_path", "").rstrip("/"))
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{root}{WEBHOOK}"


def _post(url: str, body: bytes, signature: str) -> int:
    headers = {"Content-Type": "application/json", "Stripe-Signature": signature}
    outgoing = urllib.request.Request(url, body, headers)  # noqa: S310  # http, see _webhook
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(outgoing, timeout=PATIENCE) as answer:
            return int(answer.status)
    except OSError:
        return 0
