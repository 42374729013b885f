"""*timers*: 1,000 delays that are due within one second, of 20 flows that fork into 50."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from bench.harness.figures import Measured, Series, at_least, at_most, figure, percentile
from bench.harness.options import Options
from bench.harness.processes import Server
from bench.harness.work import times_ms

DELAY_SECONDS = 3
FLOWS, WIDTH = 20, 50


def run(server: Server, options: Options) -> Iterator[Measured]:
    """How late timers fire."""
    branches = list(range(2, WIDTH + 2))
    delays = [{"id": n, "type": "system", "name": "delay", "delaySeconds": DELAY_SECONDS} for n in branches]
    fork = {"id": 1, "type": "system", "name": "switch", "expression": "x", "next": {"x": branches}}
    server.call("POST", "/workflow", {"name": "delays", "rootAction": 1, "actions": [fork, *delays]})
    rounds = [_one_round(server) for _ in range(options.runs)]
    lates = [late for late, _ in rounds]
    yield figure("timers, 1,000 due within", [within for _, within in rounds], "s")
    yield at_least("timers, the earliest of all", min(map(min, lates)), "ms late", 0)
    yield at_most("timers, p50", [statistics.median(late) for late in lates], "ms late", 10)
    yield at_most("timers, p99", [percentile(late, 99) for late in lates], "ms late", 50)
    together = [ms for late in lates for ms in late]
    yield Series("timers by percentile", [(percent, percentile(together, percent)) for percent in range(100)])


def _one_round(server: Server) -> tuple[list[float], float]:
    """How late each timer was (ms), and within how many seconds all were due."""
    ids = []
    began = time.perf_counter()
    for number in range(FLOWS):
        time.sleep(max(0, began + number * 0.045 - time.perf_counter()))
        ids.append(server.call("POST", "/flow/execute", {"name": "delays", "input": {}})["flowId"])
    time.sleep(DELAY_SECONDS + 1)
    due: list[float] = []
    late: list[float] = []
    for flow_id in ids:
        (set_at, *_), ended_at = times_ms(server, flow_id, "scheduled"), times_ms(server, flow_id, "completed")[1:]
        if len(ended_at) != WIDTH:
            raise SystemExit(f"{WIDTH - len(ended_at)} timers of a flow have not fired a second after they were due")
        due.append(set_at + DELAY_SECONDS * 1e3)
        late += [at - due[-1] for at in ended_at]
    return late, (max(due) - min(due)) / 1e3
