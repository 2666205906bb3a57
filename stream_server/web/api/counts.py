"""Stock counts that external systems report, with the role `shop`."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from stream_server.database.shares import Work
from stream_server.database.transactions import Row
from stream_server.errors import InvalidRequest
from stream_server.inventory import counts
from stream_server.inventory.counts import Count
from stream_server.web import inputs, state
from stream_server.web.answers import success
from stream_server.web.auth import require_role
from stream_server.web.routing import Resource

__all__ = ["sync_routes"]

COUNT_FIELDS: Final = frozenset({"productId", "variantId", "count", "soldOnShelf"})
MAX_COUNTS: Final = 5000
MAX_SOURCE: Final = 100  # characters


def sync_routes() -> list[Resource]:
    """Returns the routes for external systems. They need the pool in `request.app.state`."""
    return [Resource("/api/admin/sync", POST=_report)]


async def _report(request: Request) -> Response:
    """Applies a report: `source`, `occurredAt` (the time of the count) and `counts`, each with
    productId, variantId?, count and soldOnShelf? (counted units that are already sold). Answers
    with the outcome of each count. A report may be sent again."""
    identity = require_role(request, "shop")
    body = inputs.fields(await inputs.json_body(request), "source", "occurredAt", "counts")
    results = await counts.apply_counts(
        state.pool_for(request, Work.CHANGING),
        source=inputs.text(body.get("source"), "source", MAX_SOURCE),
        occurred_at=inputs.moment(body.get("occurredAt"), "occurredAt"),
        counts=_counts(body.get("counts")),
        actor=identity.subject,
    )
    return success([_result(row) for row in results])


def _counts(given: Any) -> list[Count]:
    if not isinstance(given, list) or not 0 < len(given) <= MAX_COUNTS:
        raise InvalidRequest("counts", f"an array of 1 to {MAX_COUNTS} counts")
    counts: dict[tuple[str, str | None], Count] = {}
    for index, each in enumerate(given):
        place = f"counts[{index}]"
        if not isinstance(each, dict) or not each.keys() <= COUNT_FIELDS:
            raise InvalidRequest(place, "an object of productId, variantId, count and soldOnShelf")
        units = inputs.whole(each.get("count"), f"{place}.count", 0)
        count = Count(
            inputs.text(each.get("productId"), f"{place}.productId"),
            inputs.optional_text(each.get("variantId"), f"{place}.variantId"),
            units,
            inputs.whole(each["soldOnShelf"], f"{place}.soldOnShelf", 0, units)
            if "soldOnShelf" in each
            else None,
        )
        if counts.setdefault((count.product_id, count.variant_id), count) is not count:
            raise InvalidRequest(place, "for a product or variant that no earlier count names")
    return list(counts.values())


def _result(row: Row) -> dict[str, object]:
    return {
        "productId": row["product_id"],
        "variantId": row["variant_id"],
        "outcome": row["outcome"],
        "count": row["count"],
        "movedSince": row["moved"],
        "maxQuantity": row["max_after"],
        "availableQuantity": row["available"],
    }
