"""*memory*: a node's memory with many flows running, and Redis' memory of a finished one."""

from __future__ import annotations

from collections.abc import Iterator

from bench.harness.bursts import burst
from bench.harness.figures import Measured, at_most
from bench.harness.options import Options
from bench.harness.processes import Server, run_worker
from bench.harness.work import STEP, chain, start_many

WAITING = 100_000
FINISHED = 10_000


def run(server: Server, options: Options) -> Iterator[Measured]:
    """A node's memory while many flows wait, then the growth of Redis by finished flows."""
    wait = {"id": 1, "type": "system", "name": "wait", "event": "go", "timeoutSeconds": 3_600}
    server.call("POST", "/workflow", {"name": "waiting", "rootAction": 1, "actions": [wait]})
    waiting = options.count(WAITING, 5_000)
    start_many(server, "waiting", waiting)
    yield at_most(f"{waiting:,} flows running, memory of a node", server.memory_mb(), "MB", 250)
    server.call("POST", "/workflow", chain("three", 3))
    finished, kilobytes = options.count(FINISHED, 1_000), []
    with run_worker(server, STEP) as worker:
        burst([server], [worker], "three", finished)
        for _ in range(options.runs):
            before = server.redis.used_bytes()
            burst([server], [worker], "three", finished)
            kilobytes.append((server.redis.used_bytes() - before) / finished / 1e3)
    yield at_most("Redis memory of a finished three", kilobytes, "KB", 1.5)
