"""What a server takes that has nothing to do, and what a flow takes, while it runs and after its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from bursts import burst
from figures import Measured, at_most, figure
from options import Options
from processes import Server, run_server, run_worker
from redises import run_redis
from waiting import wait_for
from work import STEP, chain, start_many

QUIET_SECONDS = 4.0
WAITING = 100_000
FINISHED = 10_000
RETENTION_SECONDS = 5
#: What is due is removed in turns; after so long it should be gone. The ids are remembered for two minutes more.
GONE_SECONDS, FORGOTTEN_SECONDS = 60.0, 200.0
#: An allocator keeps pages that are half empty, and a server its buffers: so much more than before is nothing.
LEFT_BYTES_PER_FLOW = 20


def run(server: Server, options: Options) -> Iterator[Measured]:
    """Idle, 64 partitions."""
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


def run_memory(server: Server, options: Options) -> Iterator[Measured]:
    """A node with many flows under way; what finished flows take in Redis."""
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


def run_retention(options: Options) -> Iterator[Measured]:
    """What is left of finished flows when their retention is over: nothing."""
    finished = options.count(FINISHED, 1_000)
    flags = ["--retention-seconds", str(RETENTION_SECONDS)]
    with run_redis(options.appendfsync) as redis, run_server(redis, *flags) as server:
        server.call("POST", "/workflow", chain("three", 3))
        with run_worker(server, STEP) as worker:
            time.sleep(1)
            keys = redis.keys()
            burst([server], [worker], "three", 500)  # what is allocated once and for all
            time.sleep(RETENTION_SECONDS)
            wait_for(lambda: _flow_keys(server) == 0, GONE_SECONDS)
            bytes_before = redis.used_bytes()
            burst([server], [worker], "three", finished)
            ended = time.perf_counter()
            bytes_kept = redis.used_bytes()
            yield figure("finished threes in Redis before the retention's end", _flow_keys(server) / 2, "flows")
            wait_for(lambda: _flow_keys(server) == 0, GONE_SECONDS)
            gone = time.perf_counter() - ended
            if not options.quick:
                print("  waiting until the ids of removed flows are forgotten: two minutes", file=sys.stderr)
                wait_for(lambda: redis.keys() <= keys, FORGOTTEN_SECONDS)
            forgotten = time.perf_counter() - ended
            left = redis.keys() - keys
            left_bytes = (redis.used_bytes() - bytes_before) / finished
    yield figure(f"the last one gone after (retention {RETENTION_SECONDS} s)", gone, "s")
    yield figure("and the last of their ids forgotten after", forgotten, "s")
    yield at_most("keys in Redis that are left after the retention", left, "", 0)
    yield figure("Redis memory of a finished three before", (bytes_kept - bytes_before) / finished, "bytes")
    yield at_most("Redis memory of a finished three after the retention", left_bytes, "bytes", LEFT_BYTES_PER_FLOW)


def _flow_keys(server: Server) -> int:
    """Hashes and histories of flows."""
    import redis

    with redis.Redis(port=server.redis.ports[0]) as client:
        return sum(1 for key in client.scan_iter(count=10_000) if b"}:f:" in key or b"}:h:" in key)
