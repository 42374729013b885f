"""1,000 delays that are due within one second: 20 flows that fork into 50."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from figures import Figure, at_least, at_most, percentile
from processes import Server
from work import times_ms

DELAY_SECONDS = 3
FLOWS, WIDTH = 20, 50


def run(server: Server) -> Iterator[Figure]:
    """How late they fire."""
    branches = list(range(2, WIDTH + 2))
    delays = [{"id": n, "type": "system", "name": "delay", "delaySeconds": DELAY_SECONDS} for n in branches]
    fork = {"id": 1, "type": "system", "name": "switch", "expression": "x", "next": {"x": branches}}
    server.call("POST", "/workflow", {"name": "delays", "rootAction": 1, "actions": [fork, *delays]})
    ids = []
    began = time.perf_counter()
    for number in range(FLOWS):
        time.sleep(max(0, began + number * 0.045 - time.perf_counter()))
        ids.append(server.call("POST", "/flow/execute", {"name": "delays", "input": {}})["flowId"])
    time.sleep(2 * DELAY_SECONDS)
    due: list[float] = []
    late: list[float] = []
    for flow_id in ids:
        (set_at, *_), ended_at = times_ms(server, flow_id, "scheduled"), times_ms(server, flow_id, "completed")[1:]
        assert len(ended_at) == WIDTH
        due.append(set_at + DELAY_SECONDS * 1e3)
        late += [at - due[-1] for at in ended_at]
    yield Figure("timers, 1,000 due within", (max(due) - min(due)) / 1e3, "s")
    yield at_least("timers, the earliest", min(late), "ms late", 0)
    yield at_most("timers, p50", statistics.median(late), "ms late", 10)
    yield at_most("timers, p99", percentile(late, 99), "ms late", 50)
