"""The plots of docs/performance.md, drawn from bench/results.json.

By `python -m bench.harness.plots`, and at the end of each run. A plot is drawn when the figures that it shows are
there; the same figures give the same file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.harness.places import DOCS, RESULTS
from bench.harness.results import value

OURS, PEER, PUBLISHED = "#1f6f8b", "#c96f3b", "#b8b8b8"
#: Figures that were not measured in this run: ms of a flow of three steps as published by the systems or their rivals,
#: on other machines; and the original in Go, measured on a machine like this one.
PUBLISHED_MS = {"Restate": 4.1, "Windmill": 103.0, "Temporal": 119.0, "Inngest": 260.0}
ORIGINAL_MS, ORIGINAL_RATE = 3_000.0, 1_110.0

Benchmarks = Mapping[str, Any]


def draw(benchmarks: Benchmarks) -> Iterator[Path]:
    """Draw each plot whose figures are there, and yield its path."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    # Text stays text, which makes the files small and the same on each machine.
    settings = {"svg.hashsalt": "orchy", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}
    settings |= {"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.titlesize": 11}
    with plt.rc_context(settings):
        for name, plot in PLOTS.items():
            try:
                figure = plot(plt, benchmarks)
            except KeyError:  # one of its figures was not measured
                continue
            path = DOCS / f"performance-{name}.svg"
            figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
            plt.close(figure)
            yield path


def _bars(plt: Any, bars: list[tuple[str, float, str]], title: str, label: str, *, log: bool) -> Any:
    """Horizontal bars with their values, the best on top: the smallest on a log scale, else the largest."""
    bars = sorted(bars, key=lambda bar: bar[1], reverse=not log)
    where = "upper right" if log else "lower right"
    figure, axes = plt.subplots(figsize=(7.2, 0.42 * len(bars) + 1.0))
    names, values, colours = zip(*reversed(bars), strict=True)
    axes.barh(names, values, color=colours, height=0.65)
    axes.set(title=title, xlabel=label, **({"xscale": "log"} if log else {}))
    axes.set_xlim(1 if log else 0, max(values) * (3 if log else 1.15))
    for at, one in enumerate(values):
        axes.text(one, at, f" {one:,.0f}" if one >= 100 else f" {one:.1f}", va="center")
    kinds = {
        OURS: "Orchy, this run",
        PEER: "others, measured on such a machine",
        PUBLISHED: "published, other machines",
    }
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in kinds if colour in colours]
    axes.legend(handles, [kinds[colour] for colour in kinds if colour in colours], loc=where, frameon=False)
    return figure


def _three(plt: Any, benchmarks: Benchmarks) -> Any:
    bars = [
        ("Orchy", value(benchmarks, "three", "three, p50"), OURS),
        ("Celery, solo", value(benchmarks, "celery", "Celery (solo), chain of three, p50"), PEER),
        ("Celery, prefork 2", value(benchmarks, "celery", "Celery (prefork, 2), chain of three, p50"), PEER),
        *((name, ms, PUBLISHED) for name, ms in PUBLISHED_MS.items()),
        ("the original Orchy (Go)", ORIGINAL_MS, PEER),
    ]
    return _bars(plt, bars, "Three actions in a row, one flow at a time", "ms, p50 (log scale)", log=True)


def _burst(plt: Any, benchmarks: Benchmarks) -> Any:
    bars = [
        ("Orchy, its worker library,\nbatch starts", value(benchmarks, "burst", "burst 10,000, batch starts"), OURS),
        ("Orchy, Poll and Push,\nsingle starts", value(benchmarks, "burst-plain", "burst "), OURS),
        ("the original Orchy (Go)", ORIGINAL_RATE, PEER),
        ("Celery, prefork 2", value(benchmarks, "celery", "Celery (prefork, 2), burst"), PEER),
        ("Celery, solo", value(benchmarks, "celery", "Celery (solo), burst"), PEER),
    ]
    return _bars(plt, bars, "A burst of flows of three actions, one machine for all", "flows a second", log=False)


def _line(axes: Any, points: list[list[float]], **how: Any) -> None:
    axes.plot([x for x, _ in points], [y for _, y in points], color=OURS, **how)
    axes.set_ylim(0, 1.1 * max(y for _, y in points))
    axes.grid(axis="y", alpha=0.3)


def _chain(plt: Any, benchmarks: Benchmarks) -> Any:
    figure, axes = plt.subplots(figsize=(7.2, 2.8))
    _line(axes, benchmarks["chain"]["series"]["chain 1,000 by step"])
    axes.set(title="How long a step takes along a flow of 1,000", xlabel="step of a chain of 1,000", ylabel="ms")
    return figure


def _timers(plt: Any, benchmarks: Benchmarks) -> Any:
    figure, axes = plt.subplots(figsize=(7.2, 2.8))
    _line(axes, benchmarks["timers"]["series"]["timers by percentile"], drawstyle="steps-post")
    axes.set(
        title="1,000 timers that are due within a second", xlabel="percent of the timers", ylabel="at most ms late"
    )
    return figure


def _scaling(plt: Any, benchmarks: Benchmarks) -> Any:
    series = benchmarks["partitions"]["series"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.8), sharey=True)
    _line(left, series["burst by partitions"], marker="o")
    left.set(title="one node", xlabel="partitions", ylabel="flows a second", xscale="log")
    counts = [int(count) for count, _ in series["burst by partitions"]]
    left.set_xticks(counts, [str(count) for count in counts], minor=False)
    left.minorticks_off()
    _line(right, series["burst by nodes"], marker="o")
    right.set(title="64 partitions, one machine for all nodes", xlabel="nodes")
    right.set_ylim(0, 1.1 * max(rate for points in series.values() for _, rate in points))
    right.set_xticks([int(count) for count, _ in series["burst by nodes"]])
    return figure


PLOTS: dict[str, Callable[[Any, Benchmarks], Any]] = {
    "three": _three,
    "burst": _burst,
    "chain": _chain,
    "timers": _timers,
    "scaling": _scaling,
}


if __name__ == "__main__":
    for drawn in draw(json.loads(RESULTS.read_text())["benchmarks"]):
        print(drawn)
