"""Stripe's events, as Stripe writes and signs them, and what becomes of them."""

import json
import time
from typing import Any

import httpx
import stripe

from tests.support.shop import WEBHOOK_SECRET, Shop

NOBODYS = "00000000-0000-4000-8000-000000000000"


def event(kind: str, id_: str = "evt_1", created: int | None = None, **fields: Any) -> bytes:
    """As Stripe writes it: indented, keys in its own order."""
    times = {} if created is None else {"created": created}
    body = {"id": id_, "object": "event", **times, "type": kind, "data": {"object": fields}}
    return json.dumps(body, indent=2).encode()


def session(token: str, *, intent: str | None = "pi_1", status: str = "paid") -> dict[str, Any]:
    return {
        "id": "cs_1",
        "payment_intent": intent,
        "payment_status": status,
        "client_reference_id": None,
        "metadata": {"reservation_token": token},
    }


async def send(
    api: Shop,
    body: bytes,
    *,
    at: float | None = None,
    secret: str = WEBHOOK_SECRET,
    path: str = "/api/webhooks/stripe",
) -> httpx.Response:
    header = stripe.WebhookSignature.generate_signature_header(
        body.decode("utf-8", "replace"), secret, timestamp=int(at or time.time())
    )
    return await api.shopper.post(path, content=body, headers={"Stripe-Signature": header})


async def open_alerts(api: Shop, level: str) -> list[tuple[str, str]]:
    answer = await api.admin.get("/api/admin/alerts", params={"level": level})
    return [(each["source"], each["message"]) for each in answer.json()["data"]]


async def outcome(api: Shop, body: bytes) -> str:
    answer = await send(api, body)
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["data"]["outcome"]
    return found


def charge(*, all_of_it: bool = True) -> dict[str, Any]:
    return {"id": "ch_1", "payment_intent": "pi_1", "refunded": all_of_it}
