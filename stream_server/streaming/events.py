"""The events of streams, as bytes, and which variants of a product have changed for the public.

Nothing here has a state. How a product looks in JSON is given as an `Encoder`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Protocol

from stream_server.streaming import frames
from stream_server.streaming.frames import Frame
from stream_server.streaming.products import Product

__all__ = [
    "Encoder",
    "different_variants",
    "ping",
    "reset",
    "snapshot",
    "source",
    "status_changed",
    "updated",
]


class Encoder(Protocol):
    """The public JSON of a product, a line each."""

    def product(self, product: Product) -> bytes:
        """The product with its variants, as polling and snapshots give it."""

    def variants(self, product: Product) -> Mapping[str, Hashable]:
        """What the public sees of each variant, to compare."""

    def update(self, product: Product, variant_id: str | None) -> bytes:
        """The data of `inventory_updated` for a variant, or for the product."""

    def status(self, product: Product) -> bytes:
        """The data of `product_status_changed`."""


def snapshot(
    known: Sequence[bytes],
    unknown: list[str],
    *,
    is_live: bool,
    retry_ms: int,
    position: str | None = None,
) -> Frame:
    """A `snapshot` event: the JSON of known products, and the ids that no public product has."""
    data = frames.snapshot_data(known, unknown, is_live)
    return Frame(frames.event("snapshot", data, position=position, retry_ms=retry_ms))


def reset(retry_ms: int) -> Frame:
    """A `reset` event: the client's state and its last id are void; a full snapshot follows.

    Without the empty id, a client that loses its connection before the snapshot is complete could
    resume from its old id on another process, although it has thrown that state away.
    """
    return Frame(frames.event("reset", b"{}", position="", retry_ms=retry_ms))


def source(*, is_live: bool) -> Frame:
    """A `source` event: whether the server follows the database."""
    return Frame(frames.event("source", frames.to_json({"live": is_live})))


def ping(seconds: float, retry_ms: int | None = None) -> Frame:
    """A `ping` event with the time since 1970; with `retry_ms` it tells the client to come back."""
    data = frames.to_json({"time": int(seconds * 1000)})
    return Frame(frames.event("ping", data, retry_ms=retry_ms))


def status_changed(encoder: Encoder, product: Product) -> bytes:
    """A `product_status_changed` event."""
    return frames.event("product_status_changed", encoder.status(product))


def updated(encoder: Encoder, product: Product, variant_ids: Iterable[str]) -> list[bytes]:
    """`inventory_updated` events of these variants, by their ids, and then of the product."""
    ids = [*sorted(variant_ids), None]
    return [frames.event("inventory_updated", encoder.update(product, each)) for each in ids]


def different_variants(
    encoder: Encoder, before: Product | None, after: Product | None
) -> frozenset[str]:
    """The variants that look different to the public, or are public only before or only after."""
    if not ((before and before.variants) or (after and after.variants)):
        return frozenset()  # by far the most frequent case
    old, new = (
        encoder.variants(each) if each is not None and each.is_public else {}
        for each in (before, after)
    )
    return frozenset(i for i in {**old, **new} if old.get(i) != new.get(i))
