"""What the tests of the hub share: a database in miniature, and a page that watches it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from httpx_sse import EventSource, ServerSentEvent

from stream_server.streaming.cursor import Snapshot
from stream_server.streaming.products import Change, Product, apply_change
from stream_server.web.product_json import product_data

JSON = dict[str, Any]
EPOCH_START = datetime(2026, 1, 1, tzinfo=UTC)


def parsed(stream: bytes) -> list[ServerSentEvent]:
    """The events of a stream, by a parser that is not ours."""
    headers = {"content-type": "text/event-stream"}
    return list(EventSource(httpx.Response(200, headers=headers, content=stream)).iter_sse())


def row(product_id: str, version: int, *, variant: str | None = None, **given: Any) -> Change:
    """A row of the log, as trivial as it can be where nothing is given."""
    defaults: JSON = {
        "log_id": version,
        "xid": 100 + version,
        "changed_at": EPOCH_START + timedelta(seconds=version),
        "name": f"{product_id} {variant or ''}",
        "status": "active",
        "price": 100,
        "max_quantity": 1000,
        "sold_quantity": version,
        "reserved_quantity": 0,
        "low_stock_threshold": 10,
    }
    return Change(
        product_id=product_id, variant_id=variant, version=version, **{**defaults, **given}
    )


def after(changes: Iterable[Change]) -> dict[str, Product]:
    """The products after some changes, in the order given."""
    products: dict[str, Product] = {}
    for change in changes:
        product = apply_change(products.get(change.product_id), change)
        if product is not None:
            products[change.product_id] = product
    return products


@dataclass
class MiniPostgres:
    """Transactions with numbers, row locks and snapshots; the log is all that it stores."""

    last_xid: int = 100
    last_completed: int = 100
    last_log_id: int = 0
    open: dict[int, list[Change]] = field(default_factory=dict)
    log: list[Change] = field(default_factory=list)
    epoch: str = "aaaa"

    def begin(self) -> int:
        self.last_xid += 1
        self.open[self.last_xid] = []
        return self.last_xid

    def locked_by(self, product_id: str) -> int | None:
        for xid, rows in self.open.items():
            if any(each.product_id == product_id for each in rows):
                return xid
        return None

    def version(self, product_id: str) -> int:
        rows = [*self.log, *(each for rows in self.open.values() for each in rows)]
        return max((each.version for each in rows if each.product_id == product_id), default=0)

    def write(self, xid: int, product_id: str, variant: str | None, **given: Any) -> None:
        """A change of a row, made by an open transaction that may lock it."""
        assert self.locked_by(product_id) in (None, xid)
        for each in [*self.log, *self.open[xid]]:
            if (each.product_id, each.variant_id) == (product_id, variant):
                given.setdefault("status", each.status)
        self.last_log_id += 1
        version = self.version(product_id) + 1
        change = row(
            product_id, version, variant=variant, xid=xid, log_id=self.last_log_id, **given
        )
        self.open[xid].append(change)

    def end(self, xid: int, *, commit: bool) -> None:
        rows = self.open.pop(xid)
        self.last_completed = max(self.last_completed, xid)
        if commit:
            self.log += rows

    def snapshot(self) -> Snapshot:
        xmax = self.last_completed + 1
        in_progress = frozenset(xid for xid in self.open if xid < xmax)
        return Snapshot(min(in_progress, default=xmax), xmax, in_progress)

    def since(self, seen: Snapshot) -> list[Change]:
        rows = [each for each in self.log if not seen.sees(each.xid)]
        return sorted(rows, key=lambda each: each.log_id)

    def products(self) -> dict[str, Product]:
        return after(sorted(self.log, key=lambda each: each.log_id))

    def public(self, ids: frozenset[str] | None = None) -> dict[str, JSON]:
        """What a page should show in the end."""
        return {
            product.id: comparable(product_data(product))
            for product in self.products().values()
            if product.is_public and (ids is None or product.id in ids)
        }


class Page:
    """What a browser knows of some products (None: all), by the events alone.

    It believes each event as it comes; `by_version` keeps the higher version, as clients should.
    """

    def __init__(self, ids: frozenset[str] | None, *, by_version: bool = False) -> None:
        self.ids = ids
        self.by_version = by_version
        self.products: dict[str, JSON] = {}
        self.last_id: str | None = None
        self.live: bool | None = None
        self.resets = 0
        self.heard_of: set[str] = set()  # ids that it did not name itself

    def take(self, event: ServerSentEvent) -> None:
        data = json.loads(event.data)
        self.heard_of |= {each["productId"] for each in data.get("products", [])}
        self.heard_of |= {data["productId"]} if "productId" in data else set()
        self.heard_of |= set(data.get("unknown", [])) if self.ids is None else set()
        if event.event == "reset":
            self.products.clear()
            self.last_id = None  # its id is empty
            self.resets += 1
        elif event.event == "snapshot":
            self.live = data["live"]
            for product in data["products"]:
                self._keep(comparable(product))
            for product_id in data["unknown"]:
                self.products.pop(product_id, None)
        elif event.event == "source":
            self.live = data["live"]
        elif event.event == "product_status_changed":
            if data["status"] == "draft":
                self.products.pop(data["productId"], None)
        elif event.event == "inventory_updated":
            self._update(data)
        else:
            assert event.event == "ping", event.event
        if event.id:
            self.last_id = event.id

    def _keep(self, product: JSON) -> None:
        known = self.products.get(product["productId"])
        if not (self.by_version and known and known["version"] > product["version"]):
            self.products[product["productId"]] = product

    def _update(self, data: JSON) -> None:
        known = self.products.setdefault(
            data["productId"], {"productId": data["productId"], "variants": {}, "version": 0}
        )
        if self.by_version and known["version"] > data["version"]:
            return
        facts = stock(data)
        if data["variantId"] is None:
            known |= facts | {"version": data["version"]}
        elif facts["status"] == "draft":
            known["variants"].pop(data["variantId"], None)
        else:
            known["variants"][data["variantId"]] = facts


STOCK = (
    "maxQuantity", "soldQuantity", "availableQuantity", "isAvailable", "stock", "status", "price",
    "isLowStock", "stockMessage",
)  # fmt: skip


def stock(data: Mapping[str, Any]) -> JSON:
    return {name: data[name] for name in STOCK}


def comparable(data: Mapping[str, Any]) -> JSON:
    """A product's public JSON, without what updates don't carry."""
    return {
        "productId": data["productId"],
        "version": data["version"],
        **stock(data),
        "variants": {each["variantId"]: stock(each) for each in data.get("variants", [])},
    }
