"""What is counted, for `/metrics`. Other parts count through small ports and know nothing of Prometheus.

Why it is fast: what each step counts is a plain number here, shown when somebody asks; the library's counters take a
lock each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

#: What a request's method may be called; every other one, which a client may make up, is OTHER_METHOD.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
OTHER_METHOD = "other"
#: Values that a label takes at most; what comes then is OTHER_LABEL. None that is known today has so many.
LABELS_MAX = 100
OTHER_LABEL = "other"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The metrics of one node, in a registry of their own."""

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
        """A flow is over."""
        _count(self._ended, state)

    def result_taken(self, verdict: str) -> None:
        """A worker's result was answered."""
        _count(self._results, verdict)

    def timer_fired(self, late_ms: int) -> None:
        """A timer was taken from the store."""
        self._fired.inc()
        self._lateness.observe(late_ms / 1000)

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """A REST request was answered. A `route` is one of ours, never a path as it was asked for."""
        method = method if method in METHODS else OTHER_METHOD
        self._requests.labels(method, route, str(status)).observe(seconds)

    def request_refused(self, reason: str) -> None:
        """A REST request was refused before any route saw it."""
        _count(self._refused, reason)

    def connection_failed(self) -> None:
        """A REST connection ended by an exception that nobody foresaw."""
        self._failed.inc()

    def gauge(self, name: str, help: str, read: Callable[[], float]) -> None:
        """Show what `read` says whenever somebody asks."""
        Gauge(name, help, registry=self._registry).set_function(read)

    def counter(self, name: str, help: str, read: Callable[[], float]) -> None:
        """Show a count that is kept elsewhere."""

        class Kept(Collector):
            def collect(self) -> list[CounterMetricFamily]:
                return [CounterMetricFamily(name, help, value=read())]

        self._registry.register(Kept())

    def counters(self, name: str, help: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Show counts that are kept elsewhere, one for each value of a label."""

        class Kept(Collector):
            def collect(self) -> list[CounterMetricFamily]:
                family = CounterMetricFamily(name, help, labels=[label])
                for value, count in read().items():
                    family.add_metric([value], count)
                return [family]

        self._registry.register(Kept())

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)


def _count(counts: dict[str, int], label: str) -> None:
    """One more under a label, or under OTHER_LABEL where there are too many already."""
    if label not in counts and len(counts) >= LABELS_MAX:
        label = OTHER_LABEL
    counts[label] = counts.get(label, 0) + 1
