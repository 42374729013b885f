"""The lease loop: takes the partitions that this node is to own, prolongs what it has, gives up the rest.

A lease that is not prolonged runs out and is free for the next owner. Losing one costs nothing
but the labour: every transition is checked by the store, whoever makes it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import NoReturn

import attrs
import trio

from orchy.errors import StoreError
from orchy.partition.holdings import Holdings
from orchy.store.base import Lease, LeaseStore
from orchy.unforeseen import Where, note

#: How long the store may be silent before this node says that it can't work.
SILENCE_MAX_SECONDS = 5.0
RELEASE_SECONDS = 2.0

log = logging.getLogger(__name__)


@attrs.frozen
class LeaseTimes:
    """How long a lease lasts, how often it is prolonged, how soon one that is missing is asked for again."""

    lease_ms: int = 10_000
    renew_seconds: float = 2.5
    ask_again_seconds: float = 1.0


#: For the gossip's profiles: there is no use in a lease that outlives its owner's death by much.
LEASE_TIMES = {"default": LeaseTimes(), "fast": LeaseTimes(5_000, 1.25, 0.5)}


class LeaseKeeper:
    """Keeps the leases of the wanted partitions for one node."""

    def __init__(
        self, store: LeaseStore, node: str, holdings: Holdings, times: LeaseTimes = LEASE_TIMES["default"]
    ) -> None:
        self._store = store
        self._node = node
        self._times = times
        self._holdings = holdings
        self._wanted: frozenset[int] = frozenset()
        self._given_up: list[Lease] = []  # not held any more, but the store may not know it yet
        self._changed = trio.Event()
        self._round = trio.Event()
        self._answered_at = float("-inf")

    def want(self, partitions: Collection[int]) -> None:
        """Own exactly these from now on."""
        self._wanted = frozenset(partitions)
        self._changed.set()

    @property
    def wanted(self) -> frozenset[int]:
        """The partitions that this node is to own."""
        return self._wanted

    def ask_again(self) -> None:
        """Somebody has given up leases: see whether those that are missing are free."""
        self._changed.set()

    async def released(self) -> None:
        """Returns when nothing is held that is not wanted, and the store knows it."""
        while self._given_up or self._holdings.leases.keys() - self._wanted:
            await self._round.wait()

    @property
    def complete(self) -> bool:
        """Whether all that is wanted is held."""
        return self._holdings.leases.keys() == self._wanted

    @property
    def in_touch(self) -> bool:
        """Whether the store has answered lately."""
        return trio.current_time() - self._answered_at <= SILENCE_MAX_SECONDS

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Keep the leases until cancelled, and give them up then. Started when the first round is done."""
        started = False
        renew_at = trio.current_time() + self._times.renew_seconds
        try:
            while True:
                self._changed = trio.Event()
                try:
                    await self._release(self._holdings.leases.keys() - self._wanted)
                    await self._acquire(self._wanted - self._holdings.leases.keys())
                    if trio.current_time() >= renew_at:
                        renew_at = trio.current_time() + self._times.renew_seconds
                        await self._renew()
                except StoreError as error:
                    if self.in_touch:
                        log.warning("can't keep the leases of this node's partitions: %s", error)
                except Exception as error:
                    note(Where.LEASES, "this node's partitions", error)
                self._round.set()
                self._round = trio.Event()
                if not started:
                    started = True
                    task_status.started()
                again_at = renew_at
                if not self.complete:
                    again_at = min(again_at, trio.current_time() + self._times.ask_again_seconds)
                with trio.move_on_at(again_at):
                    await self._changed.wait()
        finally:
            with trio.move_on_after(RELEASE_SECONDS, shield=True):
                try:
                    await self._release(self._holdings.leases.keys())
                except StoreError as error:
                    log.warning("can't give up the leases, they run out by themselves: %s", error)

    async def _acquire(self, partitions: Collection[int]) -> None:
        if partitions:
            acquired = await self._store.acquire(sorted(partitions), self._node, self._times.lease_ms)
            self._answered_at = trio.current_time()
            self._holdings.add(acquired)

    async def _renew(self) -> None:
        held = list(self._holdings.leases.values())
        if held:
            kept = {lease.partition for lease in await self._store.renew(held, self._node, self._times.lease_ms)}
            self._answered_at = trio.current_time()
            lost = [lease.partition for lease in held if lease.partition not in kept]
            if lost:
                log.warning("lost partitions %s: somebody else has taken them", lost)
                self._holdings.remove(lost)
        else:  # nothing to prolong: is the store there?
            await self._store.owners([0])
            self._answered_at = trio.current_time()

    async def _release(self, partitions: Collection[int]) -> None:
        """The loops stop working on the partitions first, then the leases are free."""
        self._given_up += [self._holdings.leases[partition] for partition in sorted(partitions)]
        self._holdings.remove(partitions)
        if self._given_up:
            await self._store.release(self._given_up, self._node)
            self._given_up = []
