"""*retention*: nothing is left in Redis of flows whose retention is over."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import redis

from bench.harness.bursts import burst
from bench.harness.figures import Measured, at_most, figure
from bench.harness.options import Options
from bench.harness.processes import Server, run_server, run_worker
from bench.harness.redis_servers import run_redis
from bench.harness.waiting import wait_for
from bench.harness.work import STEP, chain

FINISHED = 10_000
RETENTION_SECONDS = 5
#: Finished flows are removed in batches; how long until the last one is gone. Ids are kept for two minutes more.
GONE_SECONDS, FORGOTTEN_SECONDS = 60.0, 200.0
#: The allocator keeps half-empty pages, and the server its buffers: growth below this is not a leak.
LEFT_BYTES_PER_FLOW = 20


def run(options: Options) -> Iterator[Measured]:
    """What is left of finished flows once their retention is over."""
    finished = options.count(FINISHED, 1_000)
    flags = ["--retention-seconds", str(RETENTION_SECONDS)]
    with run_redis(options.appendfsync) as servers, run_server(servers, *flags) as server:
        server.call("POST", "/workflow", chain("three", 3))
        with run_worker(server, STEP) as worker:
            time.sleep(1)
            keys = servers.keys()
            burst([server], [worker], "three", 500)  # for what is allocated only once
            time.sleep(RETENTION_SECONDS)
            wait_for(lambda: _flow_keys(server) == 0, GONE_SECONDS)
            bytes_before = servers.used_bytes()
            burst([server], [worker], "three", finished)
            ended = time.perf_counter()
            bytes_kept = servers.used_bytes()
            yield figure("finished threes in Redis before the retention's end", _flow_keys(server) / 2, "flows")
            wait_for(lambda: _flow_keys(server) == 0, GONE_SECONDS)
            gone = time.perf_counter() - ended
            if not options.quick:
                print("  waiting until the ids of removed flows are forgotten: two minutes", file=sys.stderr)
                wait_for(lambda: servers.keys() <= keys, FORGOTTEN_SECONDS)
            forgotten = time.perf_counter() - ended
            left = servers.keys() - keys
            left_bytes = (servers.used_bytes() - bytes_before) / finished
    yield figure(f"the last one gone after (retention {RETENTION_SECONDS} s)", gone, "s")
    yield figure("and the last of their ids forgotten after", forgotten, "s")
    yield at_most("keys in Redis that are left after the retention", left, "", 0)
    yield figure("Redis memory of a finished three before", (bytes_kept - bytes_before) / finished, "bytes")
    yield at_most("Redis memory of a finished three after the retention", left_bytes, "bytes", LEFT_BYTES_PER_FLOW)


def _flow_keys(server: Server) -> int:
    """The number of hashes and histories of flows."""
    with redis.Redis(port=server.redis.ports[0]) as client:
        return sum(1 for key in client.scan_iter(count=10_000) if b"}:f:" in key or b"}:h:" in key)
