"""Collects what a run leaves behind: the histories of its flows from the nodes, and the keys in Redis."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import redis
import trio

from orchy.ring.partition import partition_of
from orchy.store.flows import Listing
from orchy.store.redis.keys import Keys
from tests.faults import shapes
from tests.faults.http import Rest
from tests.faults.observations import Line, read_history
from tests.faults.world import NAMESPACE, PARTITIONS

READERS = 12

_keys = Keys(NAMESPACE)


async def read_flows(
    rest: Rest, flows: Collection[str]
) -> tuple[dict[str, Mapping[str, Any] | None], dict[str, list[Line]]]:
    """Each flow as GET /flow/{id} shows it (None: 404), and its history."""
    views: dict[str, Mapping[str, Any] | None] = {}
    histories: dict[str, list[Line]] = {}
    left = list(flows)

    async def read() -> None:
        while left:
            flow = left.pop()
            status, view = await rest.ask("GET", f"/flow/{flow}")
            views[flow] = view if status == 200 else None
            if status == 200:
                _, history = await rest.ask("GET", f"/flow/{flow}/history")
                histories[flow] = read_history(history)

    async with trio.open_nursery() as nursery:
        for _ in range(READERS):
            nursery.start_soon(read)
    return views, histories


def count_active(client: redis.Redis) -> int:
    """How many flows are not over."""
    with client.pipeline(transaction=False) as pipe:
        for partition in range(PARTITIONS):
            for shape in shapes.WORKFLOWS:
                pipe.zcard(_keys.partition(partition) + f"i:{Listing.ACTIVE}:{shape}".encode())
        return sum(pipe.execute())


def paused_flows(client: redis.Redis, flows: Collection[str]) -> list[str]:
    """Which of these are paused."""
    left = list(flows)
    with client.pipeline(transaction=False) as pipe:
        for flow in left:
            pipe.hexists(_keys.flow(partition_of(flow, PARTITIONS), flow), "p")
        return [flow for flow, paused in zip(left, pipe.execute(), strict=True) if paused]


def read_epochs(client: redis.Redis) -> dict[int, int]:
    """The epoch of each partition that was ever owned."""
    with client.pipeline(transaction=False) as pipe:
        for partition in range(PARTITIONS):
            pipe.hget(_keys.owner(partition), "epoch")
        return {partition: int(epoch) for partition, epoch in enumerate(pipe.execute()) if epoch is not None}


def read_leftovers(client: redis.Redis) -> list[str]:
    """Queue entries, parked entries and timers: there should be none, as all flows are over."""
    left = []
    for partition in range(PARTITIONS):
        prefix = _keys.partition(partition)
        for name in shapes.ACTIONS:
            queue = prefix + b"q:" + name.encode()
            left += [f"{queue.decode()}: {entry[:80]!r}" for entry in client.lrange(queue, 0, -1)]
        timers = _keys.timers(partition)
        left += [f"{timers.decode()}: {timer!r}" for timer in client.zrange(timers, 0, -1)]
        left += [f"{prefix.decode()}ready: {name!r}" for name in client.smembers(prefix + b"ready")]
    parked = f"{{{NAMESPACE}:*}}:k:*"
    return left + [key.decode() for key in client.scan_iter(parked, count=10_000)]
