"""Alerts for admins, about stock, payments, counts and external systems that lag behind."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from stream_server.database.shares import Work
from stream_server.database.transactions import Row
from stream_server.errors import InvalidRequest
from stream_server.inventory import alerts
from stream_server.web import inputs, state
from stream_server.web.answers import success
from stream_server.web.auth import require_role
from stream_server.web.product_json import optional_timestamp, timestamp
from stream_server.web.routing import Operation, Resource

__all__ = ["alert_routes"]

_PRIVATE: Final = {"Cache-Control": "no-store"}


def alert_routes() -> list[Resource]:
    """Returns the routes of alerts. They need the pool in `request.app.state`."""
    return [
        Resource("/api/admin/alerts", GET=Operation(_list, "state", "level", "limit", "before")),
        Resource("/api/admin/alerts/{alert_id}/acknowledge", POST=_acknowledge),
    ]


async def _list(request: Request) -> Response:
    """Lists alerts, the newest first. Takes `?state=open|new|closed|all`, `?level=low,out`,
    `?limit=` and `?before=` (the `next` of the previous page)."""
    require_role(request, "admin")
    wanted = request.query_params.get("state", "open")
    if wanted not in alerts.STATES:
        raise InvalidRequest("state", f"one of {', '.join(alerts.STATES)}")
    levels = [each for each in request.query_params.get("level", "").split(",") if each]
    if not set(levels) <= set(alerts.LEVELS):
        raise InvalidRequest("level", f"a list, separated by commas, of {', '.join(alerts.LEVELS)}")
    limit = inputs.whole_in_query(request, "limit", default=100, min_value=1, max_value=500)
    before = inputs.whole_in_query(
        request,
        "before",
        default=inputs.MAX_BIG_INTEGER,
        min_value=0,
        max_value=inputs.MAX_BIG_INTEGER,
    )
    pool = state.pool(request)
    rows = await alerts.list_alerts(
        pool,
        state=wanted,
        levels=levels or alerts.LEVELS,
        before=before,
        limit=limit + 1,
    )
    following = rows[limit - 1]["id"] if len(rows) > limit else None
    data = [_alert(row) for row in rows[:limit]]
    return success(data, beside={"next": following}, headers=_PRIVATE)


async def _acknowledge(request: Request) -> Response:
    """Acknowledges an alert in the admin's name."""
    identity = require_role(request, "admin")
    alert_id = inputs.whole_in_path(request, "alert_id", "alertId")
    pool = state.pool(request)
    alert = await alerts.acknowledge(pool.share_for(Work.CHANGING), alert_id, identity.subject)
    return success(_alert(alert), headers=_PRIVATE)


def _alert(row: Row) -> Mapping[str, Any]:
    """Returns an alert in the format of the API."""
    return {
        "alertId": row["id"],
        "level": row["level"],
        "productId": row["product_id"],
        "productName": row["product_name"],
        "variantId": row["variant_id"],
        "variantName": row["variant_value"],
        "sku": row["sku"],
        "source": row["source"],
        "stockLevel": row["available"],
        "message": row["message"],
        "timestamp": timestamp(row["opened_at"]),
        "closedAt": optional_timestamp(row["closed_at"]),
        "acknowledgedAt": optional_timestamp(row["acknowledged_at"]),
        "acknowledgedBy": row["acknowledged_by"],
    }
