"""The metrics of a node, for `/metrics`. Other parts count through small ports and know nothing of Prometheus.

Why it is fast: what each step counts is a plain number here, read when `/metrics` is; the library's counters take a
lock each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

#: The methods that are counted by name; clients may invent others, which are counted as OTHER_METHOD.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
OTHER_METHOD = "other"
#: The most values of a label; further ones are counted as OTHER_LABEL. No label has so many today.
LABELS_MAX = 100
OTHER_LABEL = "other"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The metrics of one node, in a Prometheus registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._started = 0
        self.counter("orchy_flows_started", "Flows accepted by this node", lambda: self._started)
        self._ended: dict[str, int] = {}
        self.counters("orchy_flows_ended", "Flows that ended on this node", "state", lambda: self._ended)
        self._results: dict[str, int] = {}
        self.counters("orchy_results", "Workers' results, by what became of them", "verdict", lambda: self._results)
        self._fired = Counter("orchy_timers_fired", "Timers handled", registry=registry)
        self._lateness = Histogram(
            "orchy_timer_lateness_seconds", "How late timers were taken", buckets=_SECONDS, registry=registry
        )
        self._requests = Histogram(
            "orchy_http_request_seconds",
            "REST requests",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._refused: dict[str, int] = {}
        self.counters(
            "orchy_http_refused", "REST requests refused before any route saw them", "reason", lambda: self._refused
        )
        self._failed = Counter(
            "orchy_http_connection_errors", "REST connections ended by an unforeseen error", registry=registry
        )

    def flow_started(self) -> None:
        """A flow was accepted."""
        self._started += 1

    def flow_ended(self, state: str) -> None:
        """A flow ended on this node."""
        _count(self._ended, state)

    def result_taken(self, verdict: str) -> None:
        """A worker's result was handled."""
        _count(self._results, verdict)

    def timer_fired(self, late_ms: int) -> None:
        """A timer was taken from the store."""
        self._fired.inc()
        self._lateness.observe(late_ms / 1000)

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """A REST request was answered. `route` is the pattern of a route, never a client's path."""
        method = method if method in METHODS else OTHER_METHOD
        self._requests.labels(method, route, str(status)).observe(seconds)

    def request_refused(self, reason: str) -> None:
        """A REST request was refused before it reached a route."""
        _count(self._refused, reason)

    def connection_failed(self) -> None:
        """A REST connection ended by an unexpected exception."""
        self._failed.inc()

    def gauge(self, name: str, help: str, read: Callable[[], float]) -> None:
        """Add a gauge whose value `read` returns."""
        Gauge(name, help, registry=self._registry).set_function(read)

    def counter(self, name: str, help: str, read: Callable[[], float]) -> None:
        """Add a count that is kept elsewhere."""

        class Count(Collector):
            def collect(self) -> list[CounterMetricFamily]:
                return [CounterMetricFamily(name, help, value=read())]

        self._registry.register(Count())

    def counters(self, name: str, help: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Add counts that are kept elsewhere, one for each value of a label."""

        class Counts(Collector):
            def collect(self) -> list[CounterMetricFamily]:
                family = CounterMetricFamily(name, help, labels=[label])
                for value, count in read().items():
                    family.add_metric([value], count)
                return [family]

        self._registry.register(Counts())

    def text(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        return generate_latest(self._registry)


def _count(counts: dict[str, int], label: str) -> None:
    """Add one under a label, or under OTHER_LABEL if there are too many labels."""
    if label not in counts and len(counts) >= LABELS_MAX:
        label = OTHER_LABEL
    counts[label] = counts.get(label, 0) + 1
