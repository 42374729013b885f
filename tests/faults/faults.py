"""The list of faults: a function each, which begins the fault, waits, and ends it while the load goes on."""

from __future__ import annotations

import resource
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import redis
import trio

from tests.faults import failover, rewinds
from tests.faults.clusters import RedisCluster
from tests.faults.processes import control_workers, wait_until
from tests.faults.world import World

#: How long a killed node, worker or Redis is down before it is started again.
DOWN_SECONDS = 5.0
REDIS_DOWN_SECONDS = 2.0
CLOCK_SECONDS = 60.0
REDIS_DELAY_SECONDS = 0.2
#: Less than an empty Valkey uses, so that it refuses all writes.
MEMORY_BYTES = 1_000_000
#: Less than the size of any append-only file after the warm-up.
FILE_BYTES = 1_000
#: A message on its way to a worker when its node is stopped arrives when the node is resumed.
DELIVERY_SECONDS = 3.0


@attrs.frozen
class Fault:
    """One entry of the list.

    `proxied`: there is a proxy between the nodes and Redis. `delivery_seconds`: how long an attempt that was handed out
    may be on its way to its worker. `store_may_lose`: whether Redis itself may lose data with this appendfsync.
    `weights`: the mix of shapes, if it is not the usual one. `clustered`: Redis is a Redis Cluster.
    `expected_to_fail`: why rules are broken, as long as there is no remedy.
    """

    name: str
    what: str
    happen: Callable[[World], Awaitable[None]]
    proxied: bool = False
    clustered: bool = False
    expected_to_fail: str | None = None
    delivery_seconds: float = DELIVERY_SECONDS
    store_may_lose: Callable[[str], bool] = lambda fsync: False
    weights: dict[str, int] | None = None


FAULTS: dict[str, Fault] = {}
_Happen = Callable[[World], Awaitable[None]]


def _fault(name: str, what: str, **settings: Any) -> Callable[[_Happen], _Happen]:
    def keep(happen: _Happen) -> _Happen:
        FAULTS[name] = Fault(name, what, happen, **settings)
        return happen

    return keep


@_fault("none", "nothing breaks")
async def none(world: World) -> None:
    world.begin()
    await world.last()
    world.end()


# Nodes.


@_fault("kill9", "a node is killed (-9), and started again after 5 s")
async def kill9(world: World) -> None:
    victim = world.victim()
    world.begin()
    victim.kill()
    await trio.sleep(DOWN_SECONDS)
    world.end_made_up_for()
    victim.start()
    await world.whole()


async def _stop_for(world: World, seconds: float) -> None:
    victim = world.victim()
    world.begin()
    victim.signal(signal.SIGSTOP)
    await trio.sleep(seconds)
    victim.signal(signal.SIGCONT)
    world.end_made_up_for()
    await world.whole()


@_fault("sigstop5", "a node is stopped (SIGSTOP) for 5 s", delivery_seconds=DELIVERY_SECONDS + 5)
async def sigstop5(world: World) -> None:
    await _stop_for(world, 5.0)


@_fault("sigstop30", "a node is stopped (SIGSTOP) for 30 s", delivery_seconds=DELIVERY_SECONDS + 30)
async def sigstop30(world: World) -> None:
    await _stop_for(world, 30.0)


async def _cut(world: World, directions: Sequence[str]) -> None:
    """Cut one node off from the others; each side still reaches Redis."""
    victim = world.victim()
    world.begin()
    victim.cut([node for node in world.nodes if node is not victim], directions)
    await world.last()
    victim.cut([])
    world.end_made_up_for()
    await world.whole()


@_fault("cut", "a node and the others hear nothing of each other; all have Redis")
async def cut(world: World) -> None:
    await _cut(world, ("in", "out"))


@_fault("cut-in", "a node hears nothing of the others, they hear it")
async def cut_in(world: World) -> None:
    await _cut(world, ("in",))


@_fault("cut-out", "the others hear nothing of a node, it hears them")
async def cut_out(world: World) -> None:
    await _cut(world, ("out",))


@_fault("clocks", "the clock of one node is 60 s fast, that of another 60 s slow")
async def clocks(world: World) -> None:
    fast, slow = world.rng.sample(world.nodes, 2)
    world.begin()
    fast.shift_clock(CLOCK_SECONDS)
    slow.shift_clock(-CLOCK_SECONDS)
    await world.last()
    fast.shift_clock(0)
    slow.shift_clock(0)
    world.end_made_up_for()


@_fault("rolling", "all nodes are restarted (SIGTERM), one after the other")
async def rolling(world: World) -> None:
    world.begin()
    for node in world.nodes:
        code = await world.blocking(node.stop)
        if code != 0:
            raise RuntimeError(f"{node.name} ended with code {code} after SIGTERM")
        node.start()
        await world.whole()
    world.end_made_up_for()


# Workers.


@_fault("workers-killed", "half of the worker processes are killed (-9) with work in hand, and started again after 5 s")
async def workers_killed(world: World) -> None:
    victims = world.rng.sample(world.workers, max(1, len(world.workers) // 2))
    world.begin()
    for victim in victims:
        victim.kill()
    await trio.sleep(DOWN_SECONDS)
    for victim in victims:
        victim.start()
    world.end_made_up_for()


async def _workers_behave(world: World, **settings: Any) -> None:
    world.begin()
    control_workers(world.control_file, **settings)
    await world.last()
    control_workers(world.control_file)
    world.end_made_up_for()


@_fault("triple-push", "every result is pushed three times")
async def triple_push(world: World) -> None:
    await _workers_behave(world, times=3)


_HASTY = {"chain": 40, "hasty": 60}


@_fault("late-push", "60 of 100 flows have an action whose first result comes after its timeout", weights=_HASTY)
async def late_push(world: World) -> None:
    await _workers_behave(world, late=1.0)


# Redis.


@_fault(
    "redis-restart",
    "Redis is killed (-9) and started again on its append-only file after 2 s",
    store_may_lose=lambda fsync: fsync != "always",
)
async def redis_restart(world: World) -> None:
    world.begin()
    world.redis.kill()
    await trio.sleep(REDIS_DOWN_SECONDS)
    await world.blocking(world.redis.start)
    world.end()
    await world.whole()


@_fault("store-cut", "a node is cut from Redis", proxied=True, delivery_seconds=DELIVERY_SECONDS + 10)
async def store_cut(world: World) -> None:
    number = world.rng.randrange(len(world.nodes))
    world.begin()
    world.proxy_set(cut=[world.proxy_ports()[number]])
    await world.last()
    world.proxy_set()
    world.end_made_up_for()
    await world.whole()


@_fault("store-slow", "each answer of Redis takes 200 ms longer", proxied=True)
async def store_slow(world: World) -> None:
    world.begin()
    world.proxy_set(delay_seconds=REDIS_DELAY_SECONDS)
    await world.last()
    world.proxy_set()
    world.end()
    await world.whole()


@_fault("memory-full", "Redis is at maxmemory (noeviction)")
async def memory_full(world: World) -> None:
    def set_max(memory_bytes: int) -> None:
        with world.redis.client() as client:
            client.config_set("maxmemory", memory_bytes)

    world.begin()
    await world.blocking(set_max, MEMORY_BYTES)
    await world.last()
    await world.blocking(set_max, 0)
    world.end()
    await world.whole()


@_fault("disk-full", "Redis can't write to its append-only file; if that ends it, it is started again")
async def disk_full(world: World) -> None:
    world.begin()
    world.redis.limit_files(FILE_BYTES)
    await world.last()
    if world.redis.alive:
        world.redis.limit_files(resource.RLIM_INFINITY)
        await world.blocking(_wait_until_writable, world)
    else:
        await world.blocking(world.redis.start)
    world.end()
    await world.whole()


def _wait_until_writable(world: World) -> None:
    def writes() -> bool:
        try:
            with world.redis.client() as client:
                return bool(client.set("writable", "1"))
        except redis.RedisError:
            return False

    wait_until(writes, "Redis takes writes again")


@_fault(
    "failover",
    "Redis is killed (-9), Sentinel promotes its replica, and a proxy leads the nodes there",
    proxied=True,
    store_may_lose=lambda fsync: True,
)
async def redis_failover(world: World) -> None:
    sentinel = await world.blocking(failover.start_replica_and_sentinel, world)
    world.begin()
    world.redis.kill()
    await world.blocking(failover.follow, world, sentinel)
    world.end()
    await world.whole()


@_fault(
    "cluster-failover",
    "a master of a Redis Cluster is killed (-9), its replica takes over; after 5 s it comes back as a replica",
    clustered=True,
    store_may_lose=lambda fsync: True,
)
async def cluster_failover(world: World) -> None:
    cluster = world.redis
    assert isinstance(cluster, RedisCluster)
    victim = world.rng.choice(await world.blocking(cluster.masters))
    world.begin()
    victim.kill()
    await world.blocking(wait_until, cluster.whole, "a replica takes the lost master's place")
    world.end()
    await world.whole()
    await trio.sleep(DOWN_SECONDS)
    await world.blocking(victim.start)
    await world.blocking(wait_until, cluster.whole, "the lost master is a replica")


_WENT_BACK = "nodes do not notice that the store went back, and go on with what they remember of flows"


@_fault(
    "replica-lags",
    "Redis is killed (-9), and a replica that had lost its last second takes over",
    proxied=True,
    store_may_lose=lambda fsync: True,
    expected_to_fail=_WENT_BACK,
)
async def replica_lags(world: World) -> None:
    replica = await world.blocking(failover.start_replica, world)
    await rewinds.lag_and_take_over(world, replica)
    await world.whole()


@_fault(
    "store-goes-back",
    "Redis is killed (-9), and started again with the files that it had a second before",
    store_may_lose=lambda fsync: True,
    expected_to_fail=_WENT_BACK,
)
async def store_goes_back(world: World) -> None:
    await rewinds.put_back(world)
    await world.whole()


# Several at once.


@_fault(
    "mixed",
    "a node is killed, another stopped, a third cut off, workers die, results come three times",
    delivery_seconds=DELIVERY_SECONDS + 10,
)
async def mixed(world: World) -> None:
    order = list(world.nodes)
    world.rng.shuffle(order)
    killed, stopped, lonely = (order * 3)[:3]
    workers = world.rng.sample(world.workers, max(1, len(world.workers) // 2))
    world.begin()
    control_workers(world.control_file, times=3, late=1.0)
    lonely.cut([node for node in world.nodes if node is not lonely])
    killed.kill()
    await trio.sleep(world.settings.seconds / 4)
    stopped.signal(signal.SIGSTOP)
    for worker in workers:
        worker.kill()
    await trio.sleep(world.settings.seconds / 4)
    killed.start()
    for worker in workers:
        worker.start()
    await trio.sleep(world.settings.seconds / 2)
    stopped.signal(signal.SIGCONT)
    lonely.cut([])
    control_workers(world.control_file)
    world.end()
    await world.whole()
