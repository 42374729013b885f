"""*layouts*: the same work over today's layout of the store and over the spikes, turn and turn about."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence

import attrs
import redis
import trio
from msgspec.structs import replace

from bench.harness.figures import Measured, figure
from bench.harness.options import Options
from bench.harness.redis_servers import RedisServers, run_redis, run_redis_cluster
from bench.store.layouts import moving, work
from bench.store.layouts.calls import costs as call_costs
from bench.store.layouts.drivers import Variant
from bench.store.layouts.loads import Load, loads
from bench.store.layouts.work import Driven, Flows
from bench.store.opening import open_store
from orchy.store.flows import Commit

#: So many that an index of a partition is no longer in the compact form of small sorted sets; and of the other work.
MANY_FLOWS, FLOWS, QUICK_FLOWS = 10_000, 4_000, 300
CHAIN, QUICK_CHAIN = 10_000, 1_000
MOVED_FLOWS = 2_000

TODAY, HASH, LOG = Variant("today"), Variant("lean hash", "hash"), Variant("log", "log")
ALIKE = (TODAY, HASH, LOG)
SETTINGS = (
    *ALIKE,
    attrs.evolve(LOG, name="log, ended flows in an index", finished="index"),
    attrs.evolve(LOG, name="log, untrimmed", trims=False),
    attrs.evolve(LOG, name="log, a timer an attempt", timers="one"),
    attrs.evolve(LOG, name="log, two timers an attempt", timers="two"),
    attrs.evolve(LOG, name="log, 8 a call", batch=8),
    attrs.evolve(LOG, name="log, 1 a call", batch=1),
    attrs.evolve(LOG, name="log, a call for each partition", several=False),
)
BATCHES = (TODAY, *(attrs.evolve(LOG, name=f"log, {batch} a call", batch=batch) for batch in (1, 8, 32)))

FlowCommits = Sequence[Sequence[Commit]]
Run = Callable[[Driven, FlowCommits], Awaitable[None]]


@attrs.frozen
class Work:
    """What is measured over some variants; `before` is done first and does not count."""

    name: str
    make: Callable[[Flows], list[list[Commit]]]
    run: Run
    variants: Sequence[Variant] = ALIKE
    queued: bool = True
    before: Run | None = None
    retain_ms: int = 604_800_000
    one_partition: bool = False

    def flows(self, count: int) -> FlowCommits:
        """The commits of all flows, made once for all variants."""
        flows = self.make(Flows(count, self.queued, retain_ms=self.retain_ms))
        return [[replace(one, partition=0) for one in flow] for flow in flows] if self.one_partition else flows


async def _expire(layout: Driven, flows: FlowCommits) -> None:
    removed = 0
    while removed < len(flows):
        removed += await layout.expire(work.ALL_PARTITIONS)


WORKS = (
    Work("streams", work.straight, work.in_waves, SETTINGS, queued=False),
    Work("streams, one partition", work.straight, work.in_waves, BATCHES, queued=False, one_partition=True),
    Work("queues", work.straight, work.through_queues, (*ALIKE, attrs.evolve(LOG, name="log, untrimmed", trims=False))),
    Work("pauses, give-backs", work.paused, work.with_pauses),
    Work("timeouts", work.timed_out, work.with_timeouts, queued=False),
    Work("retention", work.straight, _expire, queued=False, before=work.in_waves, retain_ms=1),
)


@attrs.frozen
class Cost:
    """What a flow has cost Redis."""

    cpu_us: float
    aof_bytes: float
    memory_bytes: float


def run(options: Options) -> Iterator[Measured]:
    """Each kind of work, then loads, then a slot that moves."""
    with run_redis(options.appendfsync, "--auto-aof-rewrite-percentage", "0") as servers:
        for one in WORKS:
            count = options.count(MANY_FLOWS if one.variants is SETTINGS else FLOWS, QUICK_FLOWS)
            yield from _compare(servers, one, one.flows(count), options.runs)
        calls = [call_costs(servers) for _ in range(4 * options.runs)]
        for name in calls[0]:
            yield figure(f"in a script: {name}", [one[name] for one in calls], "us")
        length = options.count(CHAIN, QUICK_CHAIN)
        found: defaultdict[str, list[Load]] = defaultdict(list)
        for _ in range(options.runs):
            for load in trio.run(_loads, servers, length):
                found[load.form].append(load)
        for form, each in found.items():
            if each[0].ms:
                yield figure(f"load of a chain of {length:,}, {form}", [load.ms for load in each], "ms")
            yield figure(f"  {form}: decoding and folding", [load.fold_ms for load in each], "ms")
            yield figure(f"  {form}: bytes read", each[0].size)
    for spike in (False, True):
        for at_once in (False, True):
            yield from _move(options, spike=spike, at_once=at_once)


def _compare(servers: RedisServers, one: Work, flows: FlowCommits, rounds: int) -> Iterator[Measured]:
    costs: defaultdict[str, list[Cost]] = defaultdict(list)
    for _ in range(rounds):
        for variant in one.variants:
            costs[variant.name].append(trio.run(_cost, servers, one, variant, flows))
    for variant in one.variants:
        name, each = f"{one.name}: {variant.name}", costs[variant.name]
        yield figure(f"{name}: CPU of Redis", [cost.cpu_us for cost in each], "us a flow")
        if variant is not TODAY:
            pairs = zip(costs[TODAY.name], each, strict=True)
            yield figure("  today's over this", [was.cpu_us / cost.cpu_us for was, cost in pairs], "times")
        yield figure("  append-only file", [cost.aof_bytes for cost in each], "B a flow")
        if one.before is None:
            yield figure("  data set", statistics.median(cost.memory_bytes for cost in each), "B a flow")


async def _cost(servers: RedisServers, one: Work, variant: Variant, flows: FlowCommits) -> Cost:
    async with variant.open(servers) as layout:
        if one.before:
            await one.before(layout, flows)
        before = _used(servers)
        await one.run(layout, flows)
        used = [now - was for now, was in zip(_used(servers), before, strict=True)]
    cpu, aof, memory = (amount / len(flows) for amount in used)
    return Cost(cpu * 1e6, aof, memory)


def _used(servers: RedisServers) -> tuple[float, float, float]:
    """CPU seconds, bytes of the append-only file, and of memory."""
    with redis.Redis(port=servers.ports[0]) as client:
        cpu, file, memory = client.info("cpu"), client.info("persistence"), client.info("memory")
    return cpu["used_cpu_user"] + cpu["used_cpu_sys"], file["aof_current_size"], memory["used_memory"]


async def _loads(servers: RedisServers, length: int) -> list[Load]:
    async with open_store(servers) as (client, store):
        return await loads(client, store, length)


def _move(options: Options, *, spike: bool, at_once: bool) -> Iterator[Measured]:
    name = f"a slot moves {'at once' if at_once else 'key by key'}, {'log' if spike else 'today'}"
    with run_redis_cluster(options.appendfsync, 3) as servers:
        try:
            moved = moving.measure(servers, options.count(MOVED_FLOWS, QUICK_FLOWS), spike=spike, at_once=at_once)
        except redis.ResponseError as error:
            print(f"{name}: this server can't ({error})")
            return
    yield figure(f"{name}: flows stranded", moved.stranded)
    yield figure("  batches of keys that were on both masters", moved.twice)
    yield figure("  answers of TRYAGAIN", moved.errors["TRYAGAIN"])
    yield figure("  answers of ASK", moved.errors["ASK"])
    yield figure("  the move", moved.move_ms, "ms")
    yield figure("  longest wait for a commit", moved.pause_ms, "ms")
