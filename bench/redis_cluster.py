"""A Redis Cluster of 3 masters with 1 and 2 nodes, beside one Redis with as many: what a flow costs each part."""

from __future__ import annotations

from collections.abc import Iterator

from bursts import values
from figures import Measured, figure
from options import Options
from partitions import bursts_on, costs
from processes import PARTITIONS
from redises import run_redis_cluster

MASTERS = 3
NODE_COUNTS = (1, 2)
FLOWS = 5_000


def run(options: Options) -> Iterator[Measured]:
    """The masters share the machine's cores with all else, so CPU time a flow says more than flows a second."""
    for nodes in NODE_COUNTS:
        with run_redis_cluster(options.appendfsync, MASTERS) as redis:
            bursts = bursts_on(redis, options, nodes, PARTITIONS, options.count(FLOWS, 1_000))
        name = f"{MASTERS} masters, {nodes} nodes"
        yield figure(f"burst, {name}", values(bursts, lambda one: one.rate), "flows/s")
        yield from costs(f"  {name}", bursts)
        for master in range(MASTERS):
            cpu_us = values(bursts, lambda one, master=master: one.redis.cpu_seconds[master] / one.flows * 1e6)
            yield figure(f"  {name}: CPU of master {master + 1}", cpu_us, "us a flow")
        scripts = values(bursts, lambda one: one.redis.script_us / one.flows)
        yield figure(f"  {name}: time in Redis' scripts", scripts, "us a flow")
        in_bytes = values(bursts, lambda one: one.redis.in_bytes / one.flows)
        yield figure(f"  {name}: bytes into Redis", in_bytes, "a flow")
