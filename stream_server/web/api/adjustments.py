"""Manual changes of stock, price, status and threshold, for admins.

Each takes `variantId?`, `reason`, `note?`, `expectedVersion?` and the header Idempotency-Key, and
answers with the changed row.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from stream_server.database.transactions import Queries, Transaction
from stream_server.errors import InvalidRequest
from stream_server.inventory import adjustments
from stream_server.inventory.adjustments import REASONS, Adjustment
from stream_server.web import inputs
from stream_server.web.answers import success
from stream_server.web.auth import require_role
from stream_server.web.idempotency import once
from stream_server.web.routing import Endpoint, Resource

__all__ = ["admin_routes"]

MAX_NOTE: Final = 1000  # characters
STATUSES: Final = ("active", "draft", "discontinued")

Apply = Callable[[Queries, Adjustment], Awaitable[dict[str, Any]]]
Reader = Callable[[dict[str, Any]], Apply]


def admin_routes() -> list[Resource]:
    """Returns the routes of manual changes. They need the pool in `request.app.state`."""
    product = "/api/admin/products/{product_id}"
    return [
        Resource(f"{product}/adjustments", POST=_change(_read_stock, "change", "stock")),
        Resource(f"{product}/price", POST=_change(_read_price, "price")),
        Resource(f"{product}/status", POST=_change(_read_status, "status")),
        Resource(f"{product}/threshold", POST=_change(_read_threshold, "lowStockThreshold")),
    ]


def _change(read: Reader, *own_fields: str) -> Endpoint:
    """Returns an endpoint that reads its own fields and the common ones, and applies the change."""

    async def endpoint(request: Request) -> Response:
        identity = require_role(request, "admin")
        raw = await inputs.raw_body(request)
        body = inputs.fields(
            inputs.parse_json(raw), *own_fields, "variantId", "reason", "note", "expectedVersion"
        )
        apply = read(body)
        reason, note = body.get("reason"), body.get("note")
        if reason not in REASONS:
            raise InvalidRequest("reason", f"one of {', '.join(REASONS)}")
        if note is not None and (not isinstance(note, str) or "\0" in note or len(note) > MAX_NOTE):
            raise InvalidRequest("note", f"a string of at most {MAX_NOTE} characters, without NUL")
        version = body.get("expectedVersion")
        change = Adjustment(
            inputs.text(request.path_params["product_id"], "productId"),
            inputs.optional_text(body.get("variantId"), "variantId"),
            reason,
            note,
            None if version is None else inputs.whole(version, "expectedVersion", 0, 2**63 - 1),
            identity.subject,
        )

        async def work(connection: Transaction) -> Response:
            return success(await apply(connection, change))

        return await once(request, identity, raw, work)

    return endpoint


def _read_stock(body: dict[str, Any]) -> Apply:
    """Reads `change`, the units to add or remove, or `stock`, the new number of available units
    (null: unlimited). `stock` needs the version of the number that it replaces."""
    if ("change" in body) == ("stock" in body):
        raise InvalidRequest("change", "given without stock, or stock without change")
    if "change" in body:
        units = inputs.whole(body["change"], "change", -inputs.MAX_INTEGER)
        return lambda queries, change: adjustments.adjust(queries, change, units)
    given = body["stock"]
    stock = None if given is None else inputs.whole(given, "stock", 0)
    if body.get("expectedVersion") is None:
        raise InvalidRequest("expectedVersion", "given with stock")
    return lambda queries, change: adjustments.set_stock(queries, change, stock)


def _read_price(body: dict[str, Any]) -> Apply:
    """Reads `price` in cents; null gives a variant the price of its product."""
    if "price" not in body:
        raise InvalidRequest("price", "given: cents or null")
    price = None if body["price"] is None else inputs.whole(body["price"], "price", 0)
    return lambda queries, change: adjustments.change_price(queries, change, price)


def _read_status(body: dict[str, Any]) -> Apply:
    """Reads `status`."""
    status = body.get("status")
    if status not in STATUSES:
        raise InvalidRequest("status", f"one of {', '.join(STATUSES)}")
    return lambda queries, change: adjustments.change_status(queries, change, status)


def _read_threshold(body: dict[str, Any]) -> Apply:
    """Reads `lowStockThreshold`, in units."""
    threshold = inputs.whole(body.get("lowStockThreshold"), "lowStockThreshold", 0)
    return lambda queries, change: adjustments.change_threshold(queries, change, threshold)
