"""A burst on any number of nodes and Redis servers, and the CPU time that it took of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs

from bench.harness.load import start_one_by_one
from bench.harness.processes import Server, WorkerProcess
from bench.harness.progress import Progress
from bench.harness.redis_servers import RedisUse
from bench.harness.work import ended, start_many

CALLS = "orchy_redis_commands_total"
#: How often the nodes are asked how many flows have ended; each question costs a node a millisecond.
POLL_SECONDS = 0.05
BURST_SECONDS_MAX = 300.0


@attrs.frozen
class Burst:
    """One burst, and the CPU seconds it took of the nodes, the Redis servers, the workers and the load generator.

    `calls` counts the commands that the nodes sent to Redis, by their own metrics.
    """

    flows: int
    seconds: float
    starts_seconds: float
    node_seconds: float
    worker_seconds: float
    load_seconds: float
    calls: float
    redis: RedisUse

    @property
    def rate(self) -> float:
        """Flows a second, from the first start to the last end."""
        return self.flows / self.seconds

    @property
    def node_us(self) -> float:
        """CPU time of the nodes, us a flow."""
        return self.node_seconds / self.flows * 1e6

    @property
    def worker_us(self) -> float:
        """CPU time of the workers, us a flow."""
        return self.worker_seconds / self.flows * 1e6

    @property
    def load_us(self) -> float:
        """CPU time of this process, us a flow."""
        return self.load_seconds / self.flows * 1e6

    @property
    def cores(self) -> float:
        """How many cores were busy, on average."""
        return (self.node_us + self.redis_us + self.worker_us + self.load_us) / 1e6 * self.rate

    @property
    def redis_us(self) -> float:
        """CPU time of all Redis servers, us a flow."""
        return sum(self.redis.cpu_seconds) / self.flows * 1e6


def burst(
    servers: Sequence[Server], workers: Sequence[WorkerProcess], name: str, flows: int, *, single_starts: bool = False
) -> Burst:
    """Start flows as fast as possible, spread over the nodes, and wait until all have ended."""
    redis = servers[0].redis
    nodes_before = sum(server.cpu_seconds() for server in servers)
    workers_before = sum(worker.cpu_seconds() for worker in workers)
    ended_before, calls_before = sum(map(ended, servers)), _total(servers, CALLS)
    redis_before, load_before = redis.use(), time.process_time()
    began = time.perf_counter()
    if single_starts:
        start_one_by_one(servers[0], name, flows)
    else:
        _start_everywhere(servers, name, flows)
    started = time.perf_counter()
    progress = Progress("flows of a burst that have ended", flows)
    while (done := round(sum(map(ended, servers)) - ended_before)) < flows:
        progress.at(done)
        time.sleep(POLL_SECONDS)
        if time.perf_counter() - began > BURST_SECONDS_MAX:
            raise SystemExit(f"a burst of {flows:,} flows has not ended after {BURST_SECONDS_MAX:.0f} s")
    progress.at(done)
    seconds = time.perf_counter() - began
    measured = Burst(
        flows,
        seconds,
        started - began,
        sum(server.cpu_seconds() for server in servers) - nodes_before,
        sum(worker.cpu_seconds() for worker in workers) - workers_before,
        time.process_time() - load_before,
        _total(servers, CALLS) - calls_before,
        redis.use().since(redis_before),
    )
    left = servers[0].call("GET", f"/flow?name={name}&state=RUNNING&limit=1")["flows"]
    if left:
        raise SystemExit(f"flow {left[0]} of a burst is still running, but as many ended as were started")
    return measured


def _start_everywhere(servers: Sequence[Server], name: str, flows: int) -> None:
    """Start an equal share of the flows on each node, all at the same time."""
    shares = [flows // len(servers) + (number < flows % len(servers)) for number in range(len(servers))]
    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(lambda server, share: start_many(server, name, share), servers, shares))


def _total(servers: Sequence[Server], metric: str) -> float:
    return sum(server.metric(metric) for server in servers)


def values(bursts: Sequence[Burst], of: Callable[[Burst], Any]) -> list[float]:
    """One figure of each burst."""
    return [float(of(one)) for one in bursts]
