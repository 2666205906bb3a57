"""Stripe's webhook: verifies its events and hands them to `inventory/payments.py`."""

import json
from collections.abc import Sequence
from typing import Final

import stripe
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stream_server.database.shares import Work
from stream_server.database.transactions import Transaction, in_transaction
from stream_server.errors import WebhookRejected
from stream_server.inventory import payments
from stream_server.inventory.payments import Outcome, Rules
from stream_server.inventory.stripe_events import Event
from stream_server.web import inputs, state
from stream_server.web.answers import success
from stream_server.web.payment_alerts import alert_failure, code_of, message_of
from stream_server.web.routing import Operation, Resource

__all__ = ["stripe_routes", "verify"]

TOLERANCE: Final = 300  # seconds since an event was signed


def stripe_routes() -> list[Resource]:
    """Returns the route of the webhook."""
    return [Resource("/api/webhooks/stripe", POST=Operation(_receive, guard=None, is_fixed=True))]


async def _receive(request: Request) -> Response:
    """Answers 200 only once an event is handled or recorded. After any other status, Stripe repeats
    the event for three days."""
    metrics = state.metrics(request)
    settings = state.settings(request)
    secrets = [
        each
        for part in settings.stripe_webhook_secret.get_secret_value().split(",")
        if (each := part.strip())
    ]
    if not secrets:
        raise HTTPException(503, "STRIPE_WEBHOOK_SECRET is not set")
    body = await inputs.raw_body(request)
    rules = Rules(settings.currency, settings.refund_restocks)
    try:
        event = verify(body, request.headers.get("stripe-signature"), secrets)
        outcome = await _handle(request, event, rules)
    except WebhookRejected:
        metrics.webhooks.labels("rejected").inc()
        raise
    result = "duplicate" if outcome is None else "handled"
    if outcome is not None and outcome.text == payments.UNHANDLED:
        result = "unhandled"
    metrics.webhooks.labels(result).inc()
    for trouble in outcome.troubles if outcome else ():
        metrics.payment_troubles.labels(trouble).inc()
    said = outcome.text if outcome else "seen before"
    return success({"eventId": event.id, "outcome": said})


async def _handle(request: Request, event: Event, rules: Rules) -> Outcome | None:
    """Handles the event and returns the outcome; None for a repeated event. An error is raised
    after it is counted and an alert is open. The alert closes if the event is handled later."""

    async def work(connection: Transaction) -> Outcome | None:
        return await payments.handle(connection, event, rules)

    try:
        return await in_transaction(state.pool_for(request, Work.SELLING), work)
    except WebhookRejected:
        raise
    except Exception as error:
        metrics = state.metrics(request)
        kind = event.type if event.type in payments.HANDLED else "other"
        metrics.webhooks.labels("failed").inc()
        metrics.webhook_failures.labels(kind, code_of(error)).inc()
        message = (
            f"The event {event.type} of {event.payment_reference} ended in an error"
            f" ({code_of(error)}): {message_of(error)}"
        )
        await alert_failure(request, "webhook_failed", event.id, message)
        raise


def verify(body: bytes, signature: str | None, secrets: Sequence[str]) -> Event:
    """Returns the event in the raw body of a request, signed with one of the secrets.

    Raises WebhookRejected if Stripe did not sign exactly these bytes in the last five minutes.
    """
    _verify_signature(body, signature, secrets)
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        raise WebhookRejected("The body is not a Stripe event") from None
    return Event.of(event, signed_at=_signed_at(signature), lines_of=inputs.cart_lines)


def _verify_signature(body: bytes, signature: str | None, secrets: Sequence[str]) -> None:
    reason = "There is no secret to verify the signature with"
    for secret in secrets:
        try:
            # As text: before 15.6, the library turns bytes into the text "b'…'" and signs that.
            stripe.WebhookSignature.verify_header(body.decode(), signature, secret, TOLERANCE)
        except stripe.SignatureVerificationError as error:
            reason = str(error.user_message or error).partition(" (")[0]
        except (ValueError, TypeError):
            raise WebhookRejected("The body or its signature is not text") from None
        else:
            return
    raise WebhookRejected(reason)


def _signed_at(signature: str | None) -> int:
    """Returns the time in a verified header `t=…,v1=…`: the first one, like the library."""
    parts = [part.split("=", 1) for part in (signature or "").split(",") if "=" in part]
    return int(next(value for key, value in parts if key == "t"))
