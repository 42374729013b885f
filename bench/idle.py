"""What a server takes that has nothing to do, and what a flow takes."""

from __future__ import annotations

import time
from collections.abc import Iterator

from figures import Figure, at_most
from processes import Server, run_worker
from work import STEP, chain, start_many, wait_for_all

QUIET_SECONDS = 20.0
WAITING = 100_000
FINISHED = 10_000


def run(server: Server) -> Iterator[Figure]:
    """Idle, 64 partitions."""
    time.sleep(3)
    calls, cpu, began = server.metric("orchy_redis_commands_total"), server.cpu_seconds(), time.perf_counter()
    time.sleep(QUIET_SECONDS)
    seconds = time.perf_counter() - began
    yield at_most("idle, Redis calls", (server.metric("orchy_redis_commands_total") - calls) / seconds, "a second", 2)
    yield at_most("idle, of a core", (server.cpu_seconds() - cpu) / seconds * 100, "%", 0.5)
    yield at_most("idle, memory of a node", server.memory_mb(), "MB", 90)


def run_memory(server: Server) -> Iterator[Figure]:
    """A node with many flows under way; what finished flows take in Redis."""
    wait = {"id": 1, "type": "system", "name": "wait", "event": "go", "timeoutSeconds": 3_600}
    server.call("POST", "/workflow", {"name": "waiting", "rootAction": 1, "actions": [wait]})
    start_many(server, "waiting", WAITING)
    yield at_most(f"{WAITING:,} flows running, memory of a node", server.memory_mb(), "MB", 250)
    server.call("POST", "/workflow", chain("three", 3))
    before = server.redis_bytes()
    with run_worker(server, STEP):
        start_many(server, "three", FINISHED)
        wait_for_all(server, "three")
    yield at_most("Redis memory of a finished three", (server.redis_bytes() - before) / FINISHED / 1e3, "KB", 1.5)
