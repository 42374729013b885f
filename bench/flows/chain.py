"""*chain*: 40 and 1,000 user actions in a row."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator

from bench.harness.figures import Measured, Series, at_most, figure
from bench.harness.options import Options
from bench.harness.processes import Server, run_worker
from bench.harness.work import STEP, chain, run_long, run_to_end, times_ms

#: Steps that each point of the plot is the mean of.
POINT_STEPS = 50


def run(server: Server, options: Options) -> Iterator[Measured]:
    """How long a chain takes, and whether its steps slow down along it."""
    for length in (40, 1_000):
        server.call("POST", "/workflow", chain(f"chain-{length}", length))
    with run_worker(server, STEP):
        run_to_end(server, "chain-40")
        runs = options.count(21, 5)
        yield at_most("chain 40", [run_to_end(server, "chain-40")[0] / 1e3 for _ in range(runs)], "s", 0.15)
        ratios, steps_ms, all_steps = [], [], []
        for _ in range(options.runs):
            flow_id, _ = run_long(server, "chain-1000")
            at = times_ms(server, flow_id, "completed")
            steps = [later - sooner for sooner, later in itertools.pairwise(at)]
            ratios.append(statistics.fmean(steps[-100:]) / statistics.fmean(steps[:100]))
            steps_ms.append((at[-1] - at[0]) / len(steps))
            all_steps.append(steps)
    yield at_most("chain 1,000, a step of the last tenth / of the first", ratios, "", 1.1)
    yield figure("chain 1,000, a step", steps_ms, "ms")
    points = []
    for first in range(0, len(all_steps[0]) - POINT_STEPS + 1, POINT_STEPS):
        means = [statistics.fmean(steps[first : first + POINT_STEPS]) for steps in all_steps]
        points.append((first + POINT_STEPS / 2, statistics.median(means)))
    yield Series("chain 1,000 by step", points)
