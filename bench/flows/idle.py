"""*idle*: the cost of a node that has nothing to do."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.harness.figures import Measured, at_most
from bench.harness.options import Options
from bench.harness.processes import Server

QUIET_SECONDS = 4.0


def run(server: Server, options: Options) -> Iterator[Measured]:
    """Redis calls, CPU and memory of a node with 64 partitions."""
    time.sleep(3)
    calls, cores = [], []
    for _ in range(options.runs):
        before, cpu, began = server.metric("orchy_redis_commands_total"), server.cpu_seconds(), time.perf_counter()
        time.sleep(QUIET_SECONDS)
        seconds = time.perf_counter() - began
        calls.append((server.metric("orchy_redis_commands_total") - before) / seconds)
        cores.append((server.cpu_seconds() - cpu) / seconds * 100)
    yield at_most("idle, Redis calls", sum(calls) / len(calls), "a second", 2)
    yield at_most("idle, of a core", sum(cores) / len(cores), "%", 0.5)
    yield at_most("idle, memory of a node", server.memory_mb(), "MB", 90)
