"""*three*: three user actions in a row, one flow at a time. Also one script."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from figures import Measured, Series, at_most, figure, percentile
from options import Options
from processes import Server, run_worker
from work import STEP, chain, run_to_end

FLOWS = 300


def run(server: Server, options: Options) -> Iterator[Measured]:
    """Latency of a flow."""
    flows = options.count(FLOWS, 100)
    server.call("POST", "/workflow", chain("three", 3))
    with run_worker(server, STEP):
        for _ in range(20):
            run_to_end(server, "three")
        rounds = [[run_to_end(server, "three") for _ in range(flows)] for _ in range(options.runs)]
    taken = [[ended for ended, _ in one] for one in rounds]
    yield at_most("three, p50", [statistics.median(one) for one in taken], "ms", 5)
    yield at_most("three, p99", [percentile(one, 99) for one in taken], "ms", 10)
    seen = [statistics.median(seen for _, seen in one) for one in rounds]
    yield figure("three, seen by a client that asks each 5 ms, p50", seen, "ms")
    together = sorted(ms for one in taken for ms in one)
    yield Series("three by percentile", [(percent, percentile(together, percent)) for percent in range(100)])


def run_script(server: Server, options: Options) -> Iterator[Measured]:
    """A flow that is one script, which the server runs itself."""
    action = {"id": 1, "type": "system", "name": "javascript", "expression": "$.x = 1 + 1"}
    server.call("POST", "/workflow", {"name": "script", "rootAction": 1, "actions": [action]})
    for _ in range(20):
        run_to_end(server, "script")
    rounds = [[run_to_end(server, "script")[0] for _ in range(100)] for _ in range(options.runs)]
    yield figure("script, p50", [statistics.median(one) for one in rounds], "ms")
