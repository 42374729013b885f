"""Labels of metrics are bounded, whatever clients send."""

from __future__ import annotations

import pytest

from orchy.telemetry.metrics import LABELS_MAX, METHODS, Metrics


def lines_of(metrics: Metrics, name: str) -> list[str]:
    return [line for line in metrics.text().decode().splitlines() if line.startswith(name)]


def test_invented_methods_share_a_label():
    metrics = Metrics()
    for number in range(1_000):
        metrics.requested(f"ODD{number}", "none", 404, 0.01)
    metrics.requested("get", "none", 404, 0.01)
    (line,) = lines_of(metrics, "orchy_http_request_seconds_count")
    assert line == 'orchy_http_request_seconds_count{method="other",route="none",status="404"} 1001.0'


@pytest.mark.parametrize("method", sorted(METHODS))
def test_known_methods_have_labels_of_their_own(method):
    metrics = Metrics()
    metrics.requested(method, "/flow", 200, 0.01)
    assert f'method="{method}"' in lines_of(metrics, "orchy_http_request_seconds_count")[0]


@pytest.mark.parametrize(("count", "name"), [("flow_ended", "orchy_flows_ended"), ("result_taken", "orchy_results")])
def test_the_number_of_labels_is_bounded(count, name):
    metrics = Metrics()
    for number in range(5 * LABELS_MAX):
        getattr(metrics, count)(f"label{number}")
    shown = lines_of(metrics, f"{name}_total")
    assert len(shown) <= LABELS_MAX + 1
    assert any('"other"' in line for line in shown)
