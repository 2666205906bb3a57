"""Orders (R21): from the shop's own backend, and from Stripe's webhook."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stream_server.database.pool import Pool, Share, Transaction, in_transaction
from stream_server.database.shares import Work
from stream_server.errors import InvalidRequest, OrderNotFound, WebhookRejected
from stream_server.inventory import orders
from stream_server.inventory.orders import Order
from stream_server.metrics import Metrics
from stream_server.streaming.frames import to_json
from stream_server.web import inputs, stripe_events
from stream_server.web.auth import authenticated
from stream_server.web.checkout import cart_lines
from stream_server.web.envelope import success
from stream_server.web.idempotency import once
from stream_server.web.routing import Resource, Taking

__all__ = ["payment_routes"]

ON_SHORTAGE = ("refuse", "record")


def payment_routes() -> list[Resource]:
    """The routes of orders and webhooks. They find the pool in `request.app.state`."""
    return [
        Resource("/api/orders", POST=_complete),
        Resource("/api/orders/{order_id}", GET=_get),
        Resource("/api/orders/{order_id}/cancel", POST=_cancel),
        Resource("/api/orders/{order_id}/refund", POST=_refund),
        Resource("/api/webhooks/stripe", POST=Taking(_stripe, guard=None)),
    ]


async def _complete(request: Request) -> Response:
    """`{reservationToken | lines, paymentReference?, onShortage?: refuse | record}`"""
    identity = authenticated(request, "shop")
    raw = await inputs.raw_body(request)
    body = inputs.fields(
        inputs.parsed(raw), "reservationToken", "lines", "paymentReference", "onShortage"
    )
    token = inputs.optional_text(body.get("reservationToken"), "reservationToken")
    lines = cart_lines(body["lines"]) if body.get("lines") is not None else None
    if (token is None) == (lines is None):
        raise InvalidRequest("reservationToken", "given, or lines, and not both")
    payment = inputs.optional_text(body.get("paymentReference"), "paymentReference")
    on_shortage = body.get("onShortage", "refuse")
    if on_shortage not in ON_SHORTAGE:
        raise InvalidRequest("onShortage", "refuse or record")

    async def work(connection: Transaction) -> Response:
        order = await orders.complete(
            connection,
            reservation_token=token,
            lines=lines,
            payment_reference=payment,
            record_shortfall=on_shortage == "record",
            actor=identity.subject,
        )
        return _answer(order, status=201)

    return await once(request, identity, raw, work, kind=Work.SELLING)


async def _get(request: Request) -> Response:
    authenticated(request, "shop")
    return _answer(await orders.find(_pool(request), _order_id(request)))


async def _cancel(request: Request) -> Response:
    identity = authenticated(request, "shop")
    raw = await inputs.raw_body(request)
    order_id = _order_id(request)

    async def work(connection: Transaction) -> Response:
        return _answer(await orders.cancel(connection, order_id, actor=identity.subject))

    return await once(request, identity, raw, work, kind=Work.SELLING)


async def _refund(request: Request) -> Response:
    """`{restock?: true}`: false if the goods are lost."""
    identity = authenticated(request, "shop")
    raw = await inputs.raw_body(request)
    body = inputs.fields(inputs.parsed(raw) if raw.strip() else {}, "restock")
    restock = inputs.flag(body.get("restock"), "restock", default=True)
    order_id = _order_id(request)

    async def work(connection: Transaction) -> Response:
        return _answer(
            await orders.refund(connection, order_id, restock=restock, actor=identity.subject)
        )

    return await once(request, identity, raw, work, kind=Work.SELLING)


async def _stripe(request: Request) -> Response:
    """Answers 200 once an event is dealt with or recorded, and only then: Stripe sends any other
    again, for three days."""
    metrics: Metrics = request.app.state.metrics
    secret = request.app.state.settings.stripe_webhook_secret.get_secret_value()
    if not secret:
        raise HTTPException(503, "STRIPE_WEBHOOK_SECRET is not set")
    body = await inputs.raw_body(request)
    try:
        event = stripe_events.verified(body, request.headers.get("stripe-signature"), secret)

        async def work(connection: Transaction) -> str | None:
            return await stripe_events.deal_with(connection, event)

        outcome = await in_transaction(_pool(request), work)
    except WebhookRejected:
        metrics.webhooks.labels("rejected").inc()
        raise
    result = {None: "duplicate", stripe_events.UNHANDLED: "unhandled"}.get(outcome, "handled")
    metrics.webhooks.labels(result).inc()
    return success(to_json({"eventId": event.id, "outcome": outcome or "seen before"}))


def _answer(order: Order, status: int = 200) -> Response:
    return success(to_json(order), status=status, headers={"Cache-Control": "no-store"})


def _order_id(request: Request) -> int:
    given = request.path_params["order_id"]
    if not (given.isascii() and given.isdecimal() and len(given) <= 18):
        raise OrderNotFound(given)
    return int(given)


def _pool(request: Request) -> Share:
    pool: Pool = request.app.state.pool
    return pool.doing(Work.SELLING)
