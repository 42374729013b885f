"""The store that all nodes share: the reference store, with a checker that sees each change."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from orchy.store.flows import Commit, Committed
from orchy.store.leases import Lease
from orchy.store.memory.store import MemoryStore
from orchy.store.queues import Claimed
from orchy.store.timers import PartitionScan, TimerKey, TimerSetting
from tests.simulation.invariants import Checker
from tests.simulation.world import World


class Arbiter:
    """Reports calls to the checker. Those that are not named here change nothing that it keeps track of."""

    def __init__(self, world: World, store: MemoryStore, checker: Checker) -> None:
        self._world = world
        self._store = store
        self._checker = checker

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)

    async def commit(self, commit: Commit) -> Committed:
        committed = await self._store.commit(commit)
        self._world.count("commits")
        self._checker.committed(commit, committed)
        return committed

    async def claim(
        self, action_name: str, partitions: Sequence[int], limit: int, worker_id: str, lease_ms: int = 0
    ) -> Claimed:
        claimed = await self._store.claim(action_name, partitions, limit, worker_id, lease_ms)
        self._checker.claimed(action_name, partitions, claimed, limit, worker_id, lease_ms)
        return claimed

    async def give_back(self, claimed: Claimed) -> int:
        given_back = await self._store.give_back(claimed)
        self._checker.given_back(claimed, given_back)
        return given_back

    async def extend(self, partition: int, timer: TimerSetting) -> bool:
        extended = await self._store.extend(partition, timer)
        self._checker.extended(partition, timer, extended)
        return extended

    async def renew_attempts(self, partition: int, timers: Sequence[TimerKey], lease_ms: int) -> list[bool]:
        found = await self._store.renew_attempts(partition, timers, lease_ms)
        self._checker.leases_renewed(
            partition, [key for key, good in zip(timers, found, strict=True) if good], lease_ms
        )
        return found

    async def scan(self, leases: Sequence[Lease], limit: int, lease_ms: int) -> list[PartitionScan]:
        scans = await self._store.scan(leases, limit, lease_ms)
        self._checker.scanned(leases, scans, lease_ms)
        return scans

    async def cancel_timers(self, partition: int, keys: Sequence[TimerKey]) -> None:
        await self._store.cancel_timers(partition, keys)
        self._checker.cancelled(partition, keys)

    async def expire(self, leases: Sequence[Lease], limit: int) -> int:
        removed = await self._store.expire(leases, limit)
        if removed:
            self._checker.expired([lease.partition for lease in leases])
        return removed

    async def acquire(
        self, partitions: Sequence[int], node: str, lease_ms: int, instead_of: Collection[str] = ()
    ) -> list[Lease]:
        leases = await self._store.acquire(partitions, node, lease_ms, instead_of)
        self._checker.holders.acquired(leases, node, lease_ms, instead_of)
        return leases

    async def renew(self, leases: Sequence[Lease], node: str, lease_ms: int) -> list[Lease]:
        kept = await self._store.renew(leases, node, lease_ms)
        self._checker.holders.renewed(kept, node, lease_ms)
        return kept

    async def release(self, leases: Sequence[Lease], node: str) -> None:
        await self._store.release(leases, node)
        self._checker.holders.released(leases, node)
