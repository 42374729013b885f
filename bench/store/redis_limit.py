"""*redis-limit*: the scripts of *three* as fast as one Redis runs them, and the cost of each."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator

import attrs

from bench.harness.figures import Measured, figure
from bench.harness.options import Options
from bench.harness.redis_servers import RedisServers, run_redis
from bench.store.replay import Recording, record, replay

FLOWS = 10_000


def run(options: Options) -> Iterator[Measured]:
    """Both ways of handing out work. Each replay of the recording begins with an empty Redis."""
    flows = options.count(FLOWS, 1_000)
    for queued, way in ((False, "handed out by the commits"), (True, "through queues, claims of 100")):
        rates, busy, whole, costs = [], [], [], []
        recording = record(flows, queued=queued)
        # Only a part, one batch at a time: between them Redis is asked for its counters.
        part = attrs.evolve(recording, batches=recording.batches[: len(recording.batches) // 4])
        with run_redis(options.appendfsync) as redis:
            replay(part, redis.ports[0])
            for _ in range(options.runs):
                redis.clear()
                before, began = redis.use(), time.perf_counter()
                replay(recording, redis.ports[0])
                seconds = time.perf_counter() - began
                rates.append(flows / seconds)
                cpu = sum(redis.use().since(before).cpu_seconds)
                busy.append(100 * cpu / seconds)
                whole.append(flows / cpu)
                redis.clear()
                costs.append(_costs(redis, part))
        yield figure(f"one Redis, three {way}", rates, "flows/s")
        yield figure(f"  {way}: Redis calls", recording.commands / flows, "a flow")
        yield figure(f"  {way}: of a core that Redis used", busy, "%")
        yield figure(f"  {way}: with a whole core", whole, "flows/s")
        for name in costs[0]:
            yield figure(f"  {way}: time in the script of a {name}", [one[name] for one in costs], "us")
        totals = [sum(one[name] * times for name, times in _per_flow(queued).items()) for one in costs]
        yield figure(f"  {way}: time in scripts", totals, "us a flow")


def _per_flow(queued: bool) -> dict[str, float]:
    """Scripts a flow, by kind; a claim of a hundred attempts takes two calls, one for each half of the partitions."""
    return {"start": 1, "step": 2, "last step": 1, **({"claim": 3 * 2 / 100} if queued else {})}


def _costs(redis: RedisServers, recording: Recording) -> dict[str, float]:
    """us in Redis for each kind of script."""
    script_us: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, int] = defaultdict(int)
    before = redis.use()
    for name, batch in recording.batches:
        replay(attrs.evolve(recording, batches=[(name, batch)]), redis.ports[0])
        now = redis.use()
        script_us[name] += now.since(before).script_us
        counts[name] += len(batch)
        before = now
    return {name: script_us[name] / counts[name] for name in script_us}
