"""*three*: three user actions in a row, one flow at a time. Also one script."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from figures import Figure, at_most, percentile
from processes import Server, run_worker
from work import STEP, chain, run_to_end

FLOWS = 300


def run(server: Server) -> Iterator[Figure]:
    """Latency of a flow."""
    server.call("POST", "/workflow", chain("three", 3))
    with run_worker(server, STEP):
        for _ in range(20):
            run_to_end(server, "three")
        runs = [run_to_end(server, "three") for _ in range(FLOWS)]
    taken = [ended for ended, _ in runs]
    yield at_most("three, p50", statistics.median(taken), "ms", 5)
    yield at_most("three, p99", percentile(taken, 99), "ms", 10)
    yield Figure("three, seen by a client that asks each 5 ms, p50", statistics.median(seen for _, seen in runs), "ms")


def run_script(server: Server) -> Iterator[Figure]:
    """A flow that is one script, which the server runs itself."""
    action = {"id": 1, "type": "system", "name": "javascript", "expression": "$.x = 1 + 1"}
    server.call("POST", "/workflow", {"name": "script", "rootAction": 1, "actions": [action]})
    for _ in range(20):
        run_to_end(server, "script")
    yield Figure("script, p50", statistics.median(run_to_end(server, "script")[0] for _ in range(200)), "ms")
