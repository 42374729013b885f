"""A Redis Cluster of 3 masters with 1 and 2 nodes, beside one Redis with one: what a flow costs each part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from bench.harness.bursts import values
from bench.harness.figures import Measured, figure
from bench.harness.options import Options
from bench.harness.processes import PARTITIONS
from bench.harness.redis_servers import run_redis, run_redis_cluster
from bench.scale.partitions import Site, costs, measure

MASTERS = 3
SHAPES = ((1, 1), (MASTERS, 1), (MASTERS, 2))
FLOWS = 5_000


def run(options: Options) -> Iterator[Measured]:
    """The masters share the cores with everything else, so CPU time a flow says more than flows a second."""
    with ExitStack() as stack:
        sites = []
        for masters, nodes in SHAPES:
            opened = run_redis(options.appendfsync) if masters == 1 else run_redis_cluster(options.appendfsync, masters)
            sites.append(Site.open(stack, stack.enter_context(opened), nodes, PARTITIONS))
        measure(sites, options.runs, options.count(FLOWS, 1_000))
    for (masters, nodes), site in zip(SHAPES, sites, strict=True):
        name, bursts = f"{masters} masters, {nodes} nodes", site.bursts
        yield figure(f"burst, {name}", values(bursts, lambda one: one.rate), "flows/s")
        yield from costs(f"  {name}", bursts)
        if masters > 1:
            for master in range(masters):
                cpu_us = values(bursts, lambda one, master=master: one.redis.cpu_seconds[master] / one.flows * 1e6)
                yield figure(f"  {name}: CPU of master {master + 1}", cpu_us, "us a flow")
        scripts = values(bursts, lambda one: one.redis.script_us / one.flows)
        yield figure(f"  {name}: time in Redis' scripts", scripts, "us a flow")
        in_bytes = values(bursts, lambda one: one.redis.in_bytes / one.flows)
        yield figure(f"  {name}: bytes into Redis", in_bytes, "a flow")
