"""*commit*: the store alone on a real Redis, with one commit at a time and with many at once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import trio

from bench.harness.commits import graph_of, three_commits
from bench.harness.figures import Measured, figure
from bench.harness.options import Options
from bench.harness.processes import PARTITIONS
from bench.harness.redis_servers import RedisServers, run_redis
from bench.harness.work import chain
from bench.store.opening import open_store
from orchy.ring import partition_of
from orchy.store.flows import Commit, Committed

AT_ONCE = (1, 32)
FLOWS = 2_048


def run(options: Options) -> Iterator[Measured]:
    """The four commits of *three*, as one node sends them."""
    with run_redis(options.appendfsync) as redis:
        for at_once in AT_ONCE:
            flows = options.count(FLOWS, 256) if at_once > 1 else options.count(FLOWS // 4, 128)
            rounds = [trio.run(_measure, redis, flows, at_once) for _ in range(options.runs)]
            wall, cpu, redis_us, calls = zip(*rounds, strict=True)
            yield figure(f"commit, {at_once} at once: time", wall, "us")
            yield figure(f"commit, {at_once} at once: CPU of the client", cpu, "us")
            yield figure(f"commit, {at_once} at once: time in Redis' script", redis_us, "us")
            yield figure(f"commit, {at_once} at once: Redis calls", calls)


async def _measure(servers: RedisServers, flows: int, at_once: int) -> tuple[float, float, float, float]:
    """For one commit: us on the clock, us of this process's CPU, us in Redis' scripts, and Redis calls."""
    stages = _stages(flows)
    count = sum(map(len, stages))
    async with open_store(servers) as (redis, store):
        before, calls = servers.use(), redis.commands_total
        began, cpu_began = time.perf_counter(), time.process_time()
        for stage in stages:
            for first in range(0, len(stage), at_once):
                outcomes = await store.commit_all(stage[first : first + at_once])
                assert all(isinstance(outcome, Committed) for outcome in outcomes), outcomes
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu_began
        used = servers.use().since(before)
        return wall / count * 1e6, cpu / count * 1e6, used.script_us / count, (redis.commands_total - calls) / count


def _stages(flows: int) -> list[list[Commit]]:
    """The commits of all flows by stage: first all starts, then all first results, and so on."""
    graph = graph_of(chain("three", 3))
    ids = [str(uuid.uuid4()) for _ in range(flows)]
    each = [three_commits(graph, flow_id, partition_of(flow_id, PARTITIONS)) for flow_id in ids]
    return [list(stage) for stage in zip(*each, strict=True)]
