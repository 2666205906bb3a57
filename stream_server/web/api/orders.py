"""The routes of orders, for the backend of the shop."""

import logging
import re
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from stream_server.database.shares import Work
from stream_server.database.transactions import Transaction
from stream_server.errors import (
    DatabaseError,
    ImpossibleChange,
    InvalidRequest,
    OrderNotFound,
    StreamServerError,
)
from stream_server.inventory import alerts, orders
from stream_server.inventory.orders import Order, Payment
from stream_server.web import inputs, state
from stream_server.web.answers import success
from stream_server.web.auth import require_role
from stream_server.web.idempotency import once
from stream_server.web.inputs import cart_lines
from stream_server.web.payment_alerts import alert_failure, code_of, message_of
from stream_server.web.routing import Resource

__all__ = ["order_routes"]

logger = logging.getLogger(__name__)

ON_SHORTAGE: Final = ("refuse", "record")
MAX_AMOUNT: Final = 2**53 - 1  # the largest whole number in JSON that all programs read exactly


def order_routes() -> list[Resource]:
    """Returns the routes of orders. They need the pool in `request.app.state`."""
    return [
        Resource("/api/orders", POST=_complete),
        Resource("/api/orders/{order_id}", GET=_get),
        Resource("/api/orders/{order_id}/cancel", POST=_cancel),
        Resource("/api/orders/{order_id}/refund", POST=_refund),
    ]


async def _complete(request: Request) -> Response:
    """Makes an order of `{reservationToken | lines, paymentReference?, onShortage?: refuse |
    record, amount?, currency?, goodsAmount?}`."""
    identity = require_role(request, "shop")
    raw = await inputs.raw_body(request)
    body = inputs.fields(
        inputs.parse_json(raw),
        "reservationToken",
        "lines",
        "paymentReference",
        "onShortage",
        "amount",
        "currency",
        "goodsAmount",
    )
    token = inputs.optional_text(body.get("reservationToken"), "reservationToken")
    lines = cart_lines(body["lines"]) if body.get("lines") is not None else None
    if (token is None) == (lines is None):
        raise InvalidRequest(
            "reservationToken", "given without lines, or lines without reservationToken"
        )
    payment = inputs.optional_text(body.get("paymentReference"), "paymentReference")
    on_shortage = body.get("onShortage", "refuse")
    if on_shortage not in ON_SHORTAGE:
        raise InvalidRequest("onShortage", "refuse or record")
    paid = _read_payment(body)
    settings = state.settings(request)
    differs = False
    failure: Exception | None = None

    async def complete(connection: Transaction) -> Order:
        nonlocal failure
        try:
            order = await orders.complete(
                connection,
                reservation_token=token,
                lines=lines,
                payment_reference=payment,
                record_shortfall=on_shortage == "record",
                actor=identity.subject,
            )
        except Exception as error:
            failure = error  # `once` turns some errors into answers
            raise
        failure = None
        return order

    async def work(connection: Transaction) -> Response:
        nonlocal differs
        order = await complete(connection)
        if payment is not None:
            await alerts.close_payment(connection, f"order for {payment}")
        if paid is not None:
            differs = await orders.record_payment(
                connection, order["orderId"], paid, currency=settings.currency
            )
            order = await orders.find(connection, order["orderId"])
        return _answer(order, status=201)

    try:
        response = await once(request, identity, raw, work, kind=Work.SELLING)
    except Exception as error:
        failure = error
        raise
    finally:
        if payment is not None and failure is not None and not _is_refusal(failure):
            code, words = code_of(failure), message_of(failure)
            message = f"The order for {payment} ended in an error ({code}): {words}"
            await alert_failure(request, "order_failed", f"order for {payment}", message)
    if differs:
        state.metrics(request).payment_troubles.labels("amount").inc()
    return response


def _is_refusal(error: Exception) -> bool:
    """Whether the error is a refusal: then the caller knows that it must refund the payment."""
    return isinstance(error, StreamServerError) and not isinstance(
        error, (DatabaseError, ImpossibleChange)
    )


def _read_payment(body: dict[str, Any]) -> Payment | None:
    """Reads `amount`, `currency` and `goodsAmount`, which is the part of `amount` for the lines."""
    if body.get("amount") is None:
        for field in ("currency", "goodsAmount"):
            if body.get(field) is not None:
                raise InvalidRequest("amount", f"given with {field}")
        return None
    currency, goods = body.get("currency"), body.get("goodsAmount")
    if currency is not None and not (
        isinstance(currency, str) and re.fullmatch("[A-Za-z]{3}", currency)
    ):
        raise InvalidRequest("currency", "a three-letter code, such as USD (ISO 4217)")
    return Payment(
        inputs.whole(body["amount"], "amount", 0, MAX_AMOUNT),
        currency,
        None if goods is None else inputs.whole(goods, "goodsAmount", 0, MAX_AMOUNT),
    )


async def _get(request: Request) -> Response:
    """Answers with an order."""
    require_role(request, "shop")
    return _answer(await orders.find(state.pool_for(request, Work.SELLING), _order_id(request)))


async def _cancel(request: Request) -> Response:
    """Cancels an order."""
    identity = require_role(request, "shop")
    raw = await inputs.raw_body(request)
    order_id = _order_id(request)

    async def work(connection: Transaction) -> Response:
        return _answer(await orders.cancel(connection, order_id, actor=identity.subject))

    return await once(request, identity, raw, work, kind=Work.SELLING)


async def _refund(request: Request) -> Response:
    """Refunds an order: `{restock?: true, lines?, amount?, refundReference?}`. `restock` is false
    if the goods are lost. `lines` and `amount` refund only a part of the order."""
    identity = require_role(request, "shop")
    raw = await inputs.raw_body(request)
    body = inputs.fields(
        inputs.parse_json(raw) if raw.strip() else {},
        "restock",
        "lines",
        "amount",
        "refundReference",
    )
    restock = inputs.flag(body.get("restock"), "restock", default=True)
    lines = cart_lines(body["lines"]) if body.get("lines") is not None else None
    given = body.get("amount")
    amount = None if given is None else inputs.whole(given, "amount", 1, MAX_AMOUNT)
    reference = inputs.optional_text(body.get("refundReference"), "refundReference")
    order_id = _order_id(request)

    async def work(connection: Transaction) -> Response:
        return _answer(
            await orders.refund(
                connection,
                order_id,
                restock=restock,
                lines=lines,
                amount=amount,
                reference=reference,
                actor=identity.subject,
            )
        )

    return await once(request, identity, raw, work, kind=Work.SELLING)


def _answer(order: Order, status: int = 200) -> Response:
    return success(order, status=status, headers={"Cache-Control": "no-store"})


def _order_id(request: Request) -> int:
    given = request.path_params["order_id"]
    if not (given.isascii() and given.isdecimal() and len(given) <= 18):
        raise OrderNotFound(given)
    return int(given)
