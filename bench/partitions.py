"""Throughput against the number of partitions, and of nodes; all on one machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

from bursts import Burst, burst, values
from figures import Measured, Series, figure
from options import Options
from processes import PARTITIONS, run_cluster, run_worker
from redises import RedisServers, run_redis
from work import STEP, chain

PARTITION_COUNTS = (1, 8, 64, 256)
NODE_COUNTS = (1, 2, 3)
FLOWS_BY_PARTITIONS, FLOWS_BY_NODES = 5_000, 10_000


def run(options: Options) -> Iterator[Measured]:
    """A Redis of its own for each: the number of partitions is fixed when a namespace is first used."""
    points = []
    for partitions in PARTITION_COUNTS:
        bursts = _bursts(options, 1, partitions, options.count(FLOWS_BY_PARTITIONS, 1_000))
        rate = figure(f"burst, {partitions} partitions, 1 node", values(bursts, lambda one: one.rate), "flows/s")
        yield rate
        node_us = values(bursts, lambda one: one.node_us)
        yield figure(f"  {partitions} partitions: CPU of the node", node_us, "us a flow")
        points.append((partitions, rate.value))
    yield Series("burst by partitions", points)
    points, first = [], 0.0
    for nodes in NODE_COUNTS:
        bursts = _bursts(options, nodes, PARTITIONS, options.count(FLOWS_BY_NODES, 1_000))
        rate = figure(f"burst, {PARTITIONS} partitions, {nodes} nodes", values(bursts, lambda one: one.rate), "flows/s")
        first = first or rate.value
        yield rate
        yield figure(f"  {nodes} nodes / 1 node, on {os.cpu_count()} cores", rate.value / first, "times")
        yield from costs(f"  {nodes} nodes", bursts)
        points.append((nodes, rate.value))
    yield Series("burst by nodes", points)


def costs(name: str, bursts: list[Burst]) -> Iterator[Measured]:
    """CPU by part, which tells more than throughput where all parts share the cores."""
    yield figure(f"{name}: CPU of all nodes", values(bursts, lambda one: one.node_us), "us a flow")
    yield figure(f"{name}: CPU of Redis", values(bursts, lambda one: one.redis_us), "us a flow")
    yield figure(f"{name}: CPU of the workers", values(bursts, lambda one: one.worker_us), "us a flow")
    yield figure(f"{name}: Redis calls", values(bursts, lambda one: one.calls / one.flows), "a flow")
    yield figure(f"{name}: CPU of the load", values(bursts, lambda one: one.load_us), "us a flow")
    yield figure(f"{name}: cores in use", values(bursts, lambda one: one.cores))


def bursts_on(redis: RedisServers, options: Options, nodes: int, partitions: int, flows: int) -> list[Burst]:
    """Some bursts, with a worker for each node, after one that warms all up."""
    with ExitStack() as stack:
        servers = stack.enter_context(run_cluster(redis, nodes, partitions=partitions))
        servers[0].call("POST", "/workflow", chain("three", 3))
        workers = [stack.enter_context(run_worker(servers, STEP)) for _ in range(nodes)]
        burst(servers, workers, "three", 1_000)
        return [burst(servers, workers, "three", flows) for _ in range(options.runs)]


def _bursts(options: Options, nodes: int, partitions: int, flows: int) -> list[Burst]:
    with run_redis(options.appendfsync) as redis:
        return bursts_on(redis, options, nodes, partitions, flows)
