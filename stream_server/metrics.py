"""What the process counts, for Prometheus. One registry an app: nothing is global."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

LIMITED = ("requests", "searches", "reservations", "cart lines", "units", "streams", "polls")
STREAM_KINDS = ("product", "batch", "catalogue")
WEBHOOK_RESULTS = ("handled", "unhandled", "duplicate", "rejected")
SOURCE_STATES = ("lost", "awake", "drowsy", "asleep")

_LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Every metric, by the name that the code uses."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.open_streams = Gauge(
            "stream_server_open_streams",
            "Open streams, by what they show",
            ["kind"],
            registry=self.registry,
        )
        self.relayed = self._counter("events_relayed", "Product changes published to streams")
        self.delivered = self._counter("deliveries", "Frames of changes written to streams")
        self.stalled = self._counter("stalled_streams", "Streams closed: the client read nothing")
        self.failed = Counter(
            "stream_server_failed_deliveries",
            "Products that could not be encoded and streams that could not be written to",
            ["what"],
            registry=self.registry,
        )
        self.lag = Histogram(
            "stream_server_delivery_lag_seconds",
            "From a change in Postgres to its last write to a stream",
            buckets=_LAG_SECONDS,
            registry=self.registry,
        )
        self.source_state = Gauge(
            "stream_server_source_state",
            "1 for the state that the source is in",
            ["state"],
            registry=self.registry,
        )
        self.source_live = self._gauge("source_live", "1 while the source follows the database")
        self.source_losses = self._counter("source_losses", "Times the source was lost")
        self.source_reads = self._counter("source_reads", "Reads of the log")
        self.source_rows = self._counter("source_rows", "Rows of the log read")
        self.unannounced = self._counter(
            "unannounced_rows", "Rows that no notification announced: must stay 0"
        )
        self.queue_usage = self._gauge(
            "notification_queue_usage", "Full part of Postgres' notification queue, 0 to 1"
        )
        self.webhooks = Counter(
            "stream_server_webhooks",
            "Events of payment providers, by what became of them",
            ["result"],
            registry=self.registry,
        )
        self.limited = Counter(
            "stream_server_limited",
            "Times an address had too much of something: 429s, refused streams, polls that may not "
            "wait",
            ["what"],
            registry=self.registry,
        )
        self.waiting_polls = self._gauge("waiting_polls", "Long polls that wait for a change")
        self.loop_failures = Counter(
            "stream_server_loop_failures",
            "Times a background loop failed and was started again",
            ["loop"],
            registry=self.registry,
        )
        self.expired_reservations = self._counter(
            "expired_reservations", "Reservations that the sweeper ended"
        )
        self.missed_changes = self._counter(
            "missed_changes", "Changes of stock that came past the triggers, found later"
        )
        self.sync_lag = Gauge(
            "stream_server_sync_lag_seconds",
            "Age of the newest count of each external system",
            ["source"],
            registry=self.registry,
        )
        self.products = self._gauge("products", "Products in memory")
        for kind in STREAM_KINDS:
            self.open_streams.labels(kind).set(0)
        for what in ("product", "stream"):
            self.failed.labels(what)
        for result in WEBHOOK_RESULTS:
            self.webhooks.labels(result)
        for what in LIMITED:
            self.limited.labels(what)
        self.enter("lost")

    def enter(self, state: str) -> None:
        """Notes the source's state, one of SOURCE_STATES."""
        for each in SOURCE_STATES:
            self.source_state.labels(each).set(each == state)
        self.source_live.set(state != "lost")

    def render(
        self, *, open_streams: Mapping[str, int], products: int, waiting_polls: int = 0
    ) -> bytes:
        """The text format of Prometheus, with the hub's own counts as they are now."""
        for kind in STREAM_KINDS:
            self.open_streams.labels(kind).set(open_streams.get(kind, 0))
        self.products.set(products)
        self.waiting_polls.set(waiting_polls)
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"stream_server_{name}", text, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"stream_server_{name}", text, registry=self.registry)
