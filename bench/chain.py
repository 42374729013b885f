"""Long and wide flows: chain 40, chain 1,000, fan 1,000 and 4,000."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterator

from figures import Measured, Series, at_most, figure
from options import Options
from processes import Server, run_worker
from work import STEP, chain, fan, run_long, run_to_end, times_ms

#: A point of the plot is the mean of so many steps.
POINT_STEPS = 50


def run(server: Server, options: Options) -> Iterator[Measured]:
    """User actions one after the other."""
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


def run_fan(server: Server, options: Options) -> Iterator[Measured]:
    """One action forks into many, which join."""
    seconds: dict[int, list[float]] = {}
    joins = 0
    with run_worker(server, STEP):
        for width in (1_000, 4_000):
            name = f"fan-{width}"
            server.call("POST", "/workflow", fan(name, width))
            taken = seconds.setdefault(width, [])
            for _ in range(options.runs):
                flow_id, seconds_taken = run_long(server, name)
                taken.append(seconds_taken)
                counted = Counter(line["actionId"] for line in _completed(server, flow_id))
                assert counted == Counter(range(1, width + 3)), "each action completes once, the join too"
                joins += 1
    yield at_most("fan 1,000", seconds[1_000], "s", 1.5)
    yield figure("fan 4,000", seconds[4_000], "s")
    one = statistics.median(seconds[1_000])
    yield at_most("fan 4,000 / fan 1,000", [taken / one for taken in seconds[4_000]], "", 5)
    yield at_most(f"fan: joins that did not run exactly once, of {joins}", 0, "", 0)


def _completed(server: Server, flow_id: str) -> list[dict[str, object]]:
    history = server.call("GET", f"/flow/{flow_id}/history")["history"]
    return [line for line in history if line["type"] == "completed" and line.get("actionId") is not None]
