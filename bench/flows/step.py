"""*step*: the flow machine alone, from an event to the commit that would be sent. No server and no Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.harness.commits import RULES, graph_of, new_flow, results, take, three_commits
from bench.harness.figures import Measured, Series, figure
from bench.harness.options import Options
from bench.harness.work import chain, fan
from orchy.flow.events import Started
from orchy.flow.graph import Graph
from orchy.flow.machine import step


def run(options: Options) -> Iterator[Measured]:
    """CPU time of a step, and of a step with its commit."""
    graph = graph_of(chain("three", 3))
    count = options.count(2_000, 300)
    for with_commit in (False, True):
        steps_us = [_three_us(graph, count, with_commit) for _ in range(options.runs)]
        yield figure(f"step of three{' with its commit' if with_commit else ''}", steps_us, "us")
    long = graph_of(chain("chain-1000", 1_000))
    runs = [_along(long) for _ in range(options.runs)]
    points = [(10.0 * index + 5, min(one[index] for one in runs)) for index in range(len(runs[0]))]
    yield figure("step of chain 1,000 with its commit, first tenth", [_mean(one[:10]) for one in runs], "us")
    yield figure("step of chain 1,000 with its commit, last tenth", [_mean(one[-10:]) for one in runs], "us")
    yield Series("step alone along chain 1,000", points)
    for width in (1_000, 4_000):
        wide = graph_of(fan(f"fan-{width}", width))
        forks, joins = zip(*(_fan(wide, width) for _ in range(options.runs)), strict=True)
        yield figure(f"fan {width:,}: the step that forks, with its commit", forks, "ms")
        yield figure(f"fan {width:,}: a step of a branch, with its commit", joins, "us")


def _three_us(graph: Graph, count: int, with_commit: bool) -> float:
    """Mean CPU time (us) of the four steps of *three*."""
    began = time.process_time()
    for number in range(count):
        if with_commit:
            three_commits(graph, f"flow-{number}", 0)
            continue
        flow, event = new_flow(graph, f"flow-{number}"), Started()
        flow = step(graph, flow, event, RULES).flow
        while not flow.state.over:
            flow = step(graph, flow, results(flow)[0], RULES).flow
    return (time.process_time() - began) / count / 4 * 1e6


def _along(graph: Graph) -> list[float]:
    """CPU time of a step (us) along a chain: the mean of each ten steps."""
    flow, _ = take(graph, new_flow(graph, "flow"), [Started()], 0)
    taken, version, began = [], 1, time.process_time()
    while not flow.state.over:
        flow, _ = take(graph, flow, results(flow), version)
        version += 1
        if version % 10 == 0:
            now = time.process_time()
            taken.append((now - began) / 10 * 1e6)
            began = now
    return taken


def _fan(graph: Graph, width: int) -> tuple[float, float]:
    """CPU time of the step that forks (ms), and mean of a branch's step, the join included (us)."""
    flow, _ = take(graph, new_flow(graph, "flow"), [Started()], 0)
    began = time.process_time()
    flow, _ = take(graph, flow, results(flow), 1)
    forked = time.process_time()
    for version, event in enumerate(results(flow), start=2):
        flow, _ = take(graph, flow, [event], version)
    joined = time.process_time()
    return (forked - began) * 1e3, (joined - forked) / width * 1e6


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
