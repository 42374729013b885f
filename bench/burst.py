"""*burst*: many of *three* at once, until all are COMPLETED."""

from __future__ import annotations

import time
from collections.abc import Iterator

from figures import Figure, at_least, at_most
from load import start_one_by_one
from processes import Server, run_worker
from work import STEP, chain, start_many, wait_for_all

FLOWS = 10_000
SMALL = 1_000
#: What the original Orchy (in Go) does with a burst of 10,000 on such a machine.
ORIGINAL_FLOWS_A_SECOND = 1_110


def run(server: Server) -> Iterator[Figure]:
    """The worker library at its best, starts in batches."""
    server.call("POST", "/workflow", chain("three", 3))
    with run_worker(server, STEP):
        start_many(server, "three", 200)
        wait_for_all(server, "three")
        for count in (SMALL, FLOWS):
            calls, cpu, began = _calls(server), server.cpu_seconds(), time.perf_counter()
            start_many(server, "three", count)
            started = time.perf_counter()
            wait_for_all(server, "three")
            seconds = time.perf_counter() - began
            rate, name = count / seconds, f"burst {count:,}, batch starts"
            yield at_least(name, rate, "flows/s", 2_300) if count == FLOWS else Figure(name, rate, "flows/s")
            yield Figure(f"{name}: starts alone", count / (started - began), "flows/s")
            yield Figure(f"{name}: server's CPU", (server.cpu_seconds() - cpu) / count * 1e6, "us a flow")
            yield at_most(f"{name}: Redis calls", (_calls(server) - calls) / count, "a flow", 5)


def run_plain(server: Server) -> Iterator[Figure]:
    """A worker of the fixed calls (one Push a result), starts one by one."""
    server.call("POST", "/workflow", chain("three", 3))
    with run_worker(server, STEP, plain=True):
        start_one_by_one(server, "three", 200)
        wait_for_all(server, "three")
        cpu, began = server.cpu_seconds(), time.perf_counter()
        start_one_by_one(server, "three", FLOWS)
        started = time.perf_counter()
        wait_for_all(server, "three")
        name = f"burst {FLOWS:,}, single starts, Poll and Push"
        yield at_least(name, FLOWS / (time.perf_counter() - began), "flows/s", ORIGINAL_FLOWS_A_SECOND)
        yield Figure(f"{name}: starts alone", FLOWS / (started - began), "flows/s")
        yield Figure(f"{name}: server's CPU", (server.cpu_seconds() - cpu) / FLOWS * 1e6, "us a flow")


def _calls(server: Server) -> float:
    return server.metric("orchy_redis_commands_total")
