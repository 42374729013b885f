"""*fan*: one action forks into 1,000 or 4,000, which join."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator

from bench.harness.figures import Measured, at_most, figure
from bench.harness.options import Options
from bench.harness.processes import Server, run_worker
from bench.harness.work import STEP, fan, run_long


def run(server: Server, options: Options) -> Iterator[Measured]:
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
