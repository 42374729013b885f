"""*three*: three user actions in a row, one flow at a time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench.harness.figures import Measured, Series, at_most, figure, percentile
from bench.harness.options import Options
from bench.harness.processes import Server, run_worker
from bench.harness.work import STEP, chain, run_to_end

FLOWS = 300


def run(server: Server, options: Options) -> Iterator[Measured]:
    """The latency of a flow, as the store saw it and as a polling client did."""
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
