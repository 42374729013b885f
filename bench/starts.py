"""Starts on one connection: one a request, and in batches."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from figures import Figure
from processes import Server
from work import chain


def run(server: Server) -> Iterator[Figure]:
    """How long a request takes, and how many flows a second that makes."""
    server.call("POST", "/workflow", chain("three", 3))
    for size, requests in ((1, 1_000), (10, 200), (100, 30), (1_000, 6)):
        one = {"name": "three", "input": {"n": 1}}
        body = one if size == 1 else [one] * size
        server.call("POST", "/flow/execute", body)
        waits = []
        for _ in range(requests):
            began = time.perf_counter()
            server.call("POST", "/flow/execute", body)
            waits.append((time.perf_counter() - began) * 1_000)
        yield Figure(f"starts, {size:,} a request", size * requests / sum(waits) * 1_000, "flows/s")
        yield Figure(f"starts, {size:,} a request, p50", statistics.median(waits), "ms")
