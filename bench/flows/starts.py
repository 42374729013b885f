"""*starts*: start requests on one connection, with one flow or many in each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from bench.harness.figures import Measured, figure
from bench.harness.options import Options
from bench.harness.processes import Server
from bench.harness.work import chain


def run(server: Server, options: Options) -> Iterator[Measured]:
    """Latency of a request, and the flows a second that follow from it."""
    server.call("POST", "/workflow", chain("three", 3))
    for size, requests in ((1, 300), (10, 60), (100, 10), (1_000, 3)):
        one = {"name": "three", "input": {"n": 1}}
        body = one if size == 1 else [one] * size
        server.call("POST", "/flow/execute", body)
        rates, p50s = [], []
        for _ in range(options.runs):
            waits = []
            for _ in range(requests):
                began = time.perf_counter()
                server.call("POST", "/flow/execute", body)
                waits.append((time.perf_counter() - began) * 1_000)
            rates.append(size * requests / sum(waits) * 1_000)
            p50s.append(statistics.median(waits))
        yield figure(f"starts, {size:,} a request", rates, "flows/s")
        yield figure(f"starts, {size:,} a request, p50", p50s, "ms")
