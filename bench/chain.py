"""Long and wide flows: chain 40, chain 1,000, fan 1,000 and 4,000."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import Counter
from collections.abc import Iterator

from figures import Figure, at_most
from processes import Server, run_worker
from work import STEP, chain, fan, run_to_end, times_ms, wait_for_all

RUNS = 5


def run(server: Server) -> Iterator[Figure]:
    """User actions one after the other."""
    for length in (40, 1_000):
        server.call("POST", "/workflow", chain(f"chain-{length}", length))
    with run_worker(server, STEP):
        run_to_end(server, "chain-40")
        yield at_most(
            "chain 40", statistics.median(run_to_end(server, "chain-40")[0] for _ in range(20)) / 1e3, "s", 0.15
        )
        ratios, steps_ms = [], []
        for _ in range(RUNS):
            flow_id = server.call("POST", "/flow/execute", {"name": "chain-1000", "input": {}})["flowId"]
            wait_for_all(server, "chain-1000")
            at = times_ms(server, flow_id, "completed")
            steps = [later - sooner for sooner, later in itertools.pairwise(at)]
            ratios.append(statistics.fmean(steps[-100:]) / statistics.fmean(steps[:100]))
            steps_ms.append((at[-1] - at[0]) / len(steps))
    yield at_most("chain 1,000, a step of the last tenth / of the first", statistics.median(ratios), "", 1.1)
    yield Figure("chain 1,000, a step", statistics.median(steps_ms), "ms")


def run_fan(server: Server) -> Iterator[Figure]:
    """One action forks into many, which join."""
    seconds = {}
    for width in (1_000, 4_000):
        name = f"fan-{width}"
        server.call("POST", "/workflow", fan(name, width))
        taken = []
        with run_worker(server, STEP):
            for _ in range(RUNS if width == 1_000 else 3):
                began = time.perf_counter()
                flow_id = server.call("POST", "/flow/execute", {"name": name, "input": {}})["flowId"]
                wait_for_all(server, name)
                taken.append(time.perf_counter() - began)
                counted = Counter(line["actionId"] for line in _completed(server, flow_id))
                assert counted == Counter(range(1, width + 3)), "each action completes once, the join too"
        seconds[width] = statistics.median(taken)
    yield at_most("fan 1,000", seconds[1_000], "s", 1.5)
    yield at_most("fan 4,000 / fan 1,000", seconds[4_000] / seconds[1_000], "", 5)


def _completed(server: Server, flow_id: str) -> list[dict[str, object]]:
    history = server.call("GET", f"/flow/{flow_id}/history")["history"]
    return [line for line in history if line["type"] == "completed" and line.get("actionId") is not None]
