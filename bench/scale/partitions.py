"""*partitions*: throughput by the number of partitions and of nodes, all on one machine, in turns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import attrs

from bench.harness.bursts import Burst, burst, values
from bench.harness.figures import Measured, Series, figure
from bench.harness.options import Options
from bench.harness.processes import PARTITIONS, Server, WorkerProcess, run_cluster, run_worker
from bench.harness.redis_servers import RedisServers, run_redis
from bench.harness.work import STEP, chain

PARTITION_COUNTS = (1, 8, 64, 256)
NODE_COUNTS = (1, 2, 3)
FLOWS_BY_PARTITIONS, FLOWS_BY_NODES = 5_000, 10_000
WARM_FLOWS = 1_000


@attrs.frozen
class Site:
    """Nodes on a Redis of their own with a worker for each, warmed up; `bursts` are the measurements."""

    servers: Sequence[Server]
    workers: Sequence[WorkerProcess]
    bursts: list[Burst] = attrs.field(factory=list)

    @classmethod
    def open(cls, stack: ExitStack, redis: RedisServers, nodes: int, partitions: int) -> Site:
        """Start the nodes and workers, until the stack closes."""
        servers = stack.enter_context(run_cluster(redis, nodes, partitions=partitions))
        servers[0].call("POST", "/workflow", chain("three", 3))
        workers = [stack.enter_context(run_worker(servers, STEP)) for _ in range(nodes)]
        burst(servers, workers, "three", WARM_FLOWS)
        return cls(servers, workers)


def measure(sites: Sequence[Site], rounds: int, flows: int) -> None:
    """Run bursts on the sites in turns, so that changes of the machine's load affect all of them.

    Every other round goes backwards, because disk writes of one site delay the next.
    """
    for number in range(rounds):
        for site in reversed(sites) if number % 2 else sites:
            site.bursts.append(burst(site.servers, site.workers, "three", flows))


def run(options: Options) -> Iterator[Measured]:
    """Each site has its own Redis: the number of partitions is fixed when a namespace is first used."""
    yield from _by_partitions(options)
    yield from _by_nodes(options)


def _by_partitions(options: Options) -> Iterator[Measured]:
    with ExitStack() as stack:
        sites = []
        for partitions in PARTITION_COUNTS:
            redis = stack.enter_context(run_redis(options.appendfsync))
            sites.append(Site.open(stack, redis, 1, partitions))
        measure(sites, options.runs, options.count(FLOWS_BY_PARTITIONS, 1_000))
    points = []
    for partitions, site in zip(PARTITION_COUNTS, sites, strict=True):
        rate = figure(f"burst, {partitions} partitions, 1 node", values(site.bursts, lambda one: one.rate), "flows/s")
        yield rate
        node_us = values(site.bursts, lambda one: one.node_us)
        yield figure(f"  {partitions} partitions: CPU of the node", node_us, "us a flow")
        points.append((partitions, rate.value))
    yield Series("burst by partitions", points)


def _by_nodes(options: Options) -> Iterator[Measured]:
    with ExitStack() as stack:
        sites = []
        for nodes in NODE_COUNTS:
            redis = stack.enter_context(run_redis(options.appendfsync))
            sites.append(Site.open(stack, redis, nodes, PARTITIONS))
        measure(sites, options.runs, options.count(FLOWS_BY_NODES, 1_000))
    points = []
    first = values(sites[0].bursts, lambda one: one.rate)
    for nodes, site in zip(NODE_COUNTS, sites, strict=True):
        rates = values(site.bursts, lambda one: one.rate)
        rate = figure(f"burst, {PARTITIONS} partitions, {nodes} nodes", rates, "flows/s")
        yield rate
        ratios = [many / one for many, one in zip(rates, first, strict=True)]
        yield figure(f"  {nodes} nodes / 1 node, on {os.cpu_count()} cores", ratios, "times")
        yield from costs(f"  {nodes} nodes", site.bursts)
        points.append((nodes, rate.value))
    yield Series("burst by nodes", points)


def costs(name: str, bursts: list[Burst]) -> Iterator[Measured]:
    """CPU by part: more telling than throughput, as all parts share the cores."""
    yield figure(f"{name}: CPU of all nodes", values(bursts, lambda one: one.node_us), "us a flow")
    yield figure(f"{name}: CPU of Redis", values(bursts, lambda one: one.redis_us), "us a flow")
    yield figure(f"{name}: CPU of the workers", values(bursts, lambda one: one.worker_us), "us a flow")
    yield figure(f"{name}: Redis calls", values(bursts, lambda one: one.calls / one.flows), "a flow")
    yield figure(f"{name}: CPU of the load", values(bursts, lambda one: one.load_us), "us a flow")
    yield figure(f"{name}: cores in use", values(bursts, lambda one: one.cores))
