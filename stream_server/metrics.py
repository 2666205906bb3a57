"""The metrics of a process, for Prometheus. Each application has its own registry."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

__all__ = [
    "ENDED_REASONS",
    "LIMITED",
    "PAYMENT_TROUBLES",
    "SOURCE_STATES",
    "STREAM_KINDS",
    "WEBHOOK_RESULTS",
    "Metrics",
]

LIMITED: Final = (
    *("requests", "searches", "reservations", "cart lines", "units", "streams", "polls"),
    "unknown ids",
)
STREAM_KINDS: Final = ("product", "batch", "catalogue")
ENDED_REASONS: Final = ("head", "body", "answer", "idle", "room", "refused", "crowd")
WEBHOOK_RESULTS: Final = ("handled", "unhandled", "duplicate", "rejected", "failed")
PAYMENT_TROUBLES: Final = (
    "unplaced",
    "amount",
    "refund_failed",
    "dispute",
    "dispute_lost",
    "webhook_failed",
    "order_failed",
)
SOURCE_STATES: Final = ("lost", "awake", "drowsy", "asleep")

_LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Registry(CollectorRegistry):
    """A registry without the `_created` series, which would double the number of series."""

    def collect(self) -> Iterator[Metric]:
        for family in super().collect():
            family.samples = [each for each in family.samples if not each.name.endswith("_created")]
            yield family


class Metrics:
    """All metrics, by the names that the code uses.

    A process also counts metrics of work that it does not do (serving or the worker's), but does
    not export them: a worker has no streams and must not report that it lost the log.
    """

    def __init__(self, *, serves: bool = True, works: bool = True) -> None:
        self.serves = serves
        self.registry = _Registry()
        self._serving = self.registry if serves else None
        self._working = self.registry if works else None
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.open_streams = Gauge(
            "stream_server_open_streams",
            "Open streams, by what they show",
            ["kind"],
            registry=self._serving,
        )
        self.open_connections = self._gauge(
            "open_connections", "Open connections of clients, those of streams included"
        )
        self.ended_connections = Counter(
            "stream_server_ended_connections",
            "Connections that the server closed, by the reason: a timeout, or a lack of room",
            ["reason"],
            registry=self.registry,
        )
        self.bad_requests = Counter(
            "stream_server_bad_requests",
            "Requests refused as invalid or unsupported HTTP before the application saw them",
            ["status"],
            registry=self.registry,
        )
        self.requests = Histogram(
            "stream_server_request_duration_seconds",
            "Seconds from a request's head to the end of its response, without polls and streams",
            ["route", "method", "status"],
            buckets=_REQUEST_SECONDS,
            registry=self._serving,
        )
        self.accept_failures = self._counter(
            "accept_failures", "Checks that found no free file descriptor to accept a connection"
        )
        self.published_changes = self._counter(
            "published_changes", "Product changes published to streams"
        )
        self.delivered = self._counter("deliveries", "Frames of changes written to streams")
        self.stalled = self._counter(
            "stalled_streams", "Streams closed because the client read nothing"
        )
        self.failed = Counter(
            "stream_server_failed_deliveries",
            "Products that could not be encoded, and streams that could not be written to",
            ["what"],
            registry=self._serving,
        )
        self.lag = Histogram(
            "stream_server_delivery_lag_seconds",
            "Seconds from a change (Postgres' clock) to its last write to a stream (our clock)",
            buckets=_LAG_SECONDS,
            registry=self._serving,
        )
        self.source_state = Gauge(
            "stream_server_source_state",
            "1 for the present state of the source, 0 for the others",
            ["state"],
            registry=self._serving,
        )
        self.source_live = self._gauge("source_live", "1 while the source follows the database")
        self.source_losses = self._counter("source_losses", "Times the source lost the database")
        self.source_reads = self._counter("source_reads", "Reads of the log")
        self.source_rows = self._counter("source_rows", "Rows of the log read")
        self.unannounced = self._counter(
            "unannounced_rows", "Rows of the log that no notification announced; must stay 0"
        )
        self.queue_usage = self._gauge(
            "notification_queue_usage", "Used part of Postgres' notification queue, 0 to 1"
        )
        self.webhooks = Counter(
            "stream_server_webhooks",
            "Events of payment providers, by result",
            ["result"],
            registry=self._serving,
        )
        self.webhook_failures = Counter(
            "stream_server_webhook_failures",
            "Events of payment providers that ended in an error, by type and reason",
            ["type", "reason"],
            registry=self.registry,
        )
        self.payment_troubles = Counter(
            "stream_server_payment_troubles",
            "Problems with payments that an operator has to look at; each has an alert",
            ["what"],
            registry=self.registry,
        )
        self.limited = Counter(
            "stream_server_limited",
            "Times an address met a limit: responses 429, refused streams, polls answered at once",
            ["what"],
            registry=self.registry,
        )
        self.waiting_polls = self._gauge("waiting_polls", "Long polls waiting for a change")
        self.loop_failures = Counter(
            "stream_server_loop_failures",
            "Times a background loop ended or failed and was started again",
            ["loop"],
            registry=self.registry,
        )
        self.expired_reservations = Counter(
            "stream_server_expired_reservations",
            "Overdue reservations that the worker ended",
            registry=self._working,
        )
        self.missed_changes = Counter(
            "stream_server_missed_changes",
            "Changes of stock that bypassed the triggers and were found later",
            registry=self._working,
        )
        self.sync_lag = Gauge(
            "stream_server_sync_lag_seconds",
            "Seconds since the newest count of each external system",
            ["source"],
            registry=self.registry,
        )
        self.pool_in_use = Gauge(
            "stream_server_pool_connections_in_use",
            "Connections to Postgres in use",
            registry=self.registry,
        )
        self.pool_waiting = Gauge(
            "stream_server_pool_waiting",
            "Tasks waiting for a connection to Postgres",
            registry=self.registry,
        )
        self.products = self._gauge("products", "Products in memory")
        for kind in STREAM_KINDS:
            self.open_streams.labels(kind).set(0)
        for reason in ENDED_REASONS:
            self.ended_connections.labels(reason)
        for what in ("product", "stream"):
            self.failed.labels(what)
        for result in WEBHOOK_RESULTS:
            self.webhooks.labels(result)
        for what in PAYMENT_TROUBLES:
            self.payment_troubles.labels(what)
        for what in LIMITED:
            self.limited.labels(what)
        self.set_source_state("lost")

    def set_sync_lags(self, lags: Mapping[str, float]) -> None:
        """Sets the gauge of each external system to these seconds, and removes all others."""
        for source, seconds in lags.items():
            self.sync_lag.labels(source).set(seconds)
        known = {
            sample.labels["source"] for each in self.sync_lag.collect() for sample in each.samples
        }
        for source in known - lags.keys():
            self.sync_lag.remove(source)

    def set_source_state(self, state: str) -> None:
        """Sets the gauges of the source's state, one of SOURCE_STATES."""
        for each in SOURCE_STATES:
            self.source_state.labels(each).set(each == state)
        self.source_live.set(state != "lost")

    def render(
        self, *, open_streams: Mapping[str, int], products: int, waiting_polls: int = 0
    ) -> bytes:
        """Returns all metrics in Prometheus' text format, with the hub's present counts."""
        for kind in STREAM_KINDS:
            self.open_streams.labels(kind).set(open_streams.get(kind, 0))
        self.products.set(products)
        self.waiting_polls.set(waiting_polls)
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"stream_server_{name}", text, registry=self._serving)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"stream_server_{name}", text, registry=self._serving)
