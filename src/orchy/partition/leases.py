"""The lease loop: takes the partitions that this node is to own, renews their leases, and releases the others.

A lease that is not renewed expires, and the partition is free for the next owner. Losing one endangers nothing: the
store checks every transition, whoever makes it.

Epochs only rise. One that does not, or a lease that is gone, means that the store has lost data: it was flushed,
restored from a backup, or a replica that lagged took over.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import NoReturn

import trio

from orchy.errors import StoreError
from orchy.partition.holdings import Holdings
from orchy.partition.limits import LEASE_TIMINGS, LeaseTiming
from orchy.store.leases import Lease, LeaseStore
from orchy.telemetry.unexpected import Where, note

log = logging.getLogger(__name__)


class LeaseKeeper:
    """Keeps the leases of the wanted partitions for one node."""

    def __init__(
        self, store: LeaseStore, node: str, holdings: Holdings, timing: LeaseTiming = LEASE_TIMINGS["default"]
    ) -> None:
        self._store = store
        self._node = node
        self._timing = timing
        self._holdings = holdings
        self._wanted: frozenset[int] = frozenset()
        self._gone: dict[str, float] = {}  # nodes whose leases may be taken -> until when
        self._unreleased: list[Lease] = []  # no longer held, but the store may not know it yet
        self._changed = trio.Event()
        self._round = trio.Event()
        self._answered_at = float("-inf")
        self._epochs: dict[int, int] = {}  # the highest that this node has had of each partition
        self._loss = trio.Event()
        #: How often the store turned out to have lost data.
        self.losses = 0

    async def wait_for_loss(self) -> None:
        """Returns when the store turns out to have lost data."""
        await self._loss.wait()

    def want(self, partitions: Collection[int], gone: Collection[str] = ()) -> None:
        """Own exactly these from now on. Leases held by nodes in `gone` are taken before they expire.

        Only for as long as such a lease can last: after that it has expired, or its node has come back.
        """
        self._wanted = frozenset(partitions)
        self._gone = {name: self._gone.get(name) or self._expiry() for name in gone}
        self._changed.set()

    def _expiry(self) -> float:
        """When a lease that was renewed just now expires."""
        return trio.current_time() + self._timing.lease_ms / 1000

    @property
    def wanted(self) -> frozenset[int]:
        """The partitions that this node is to own."""
        return self._wanted

    def ask_again(self) -> None:
        """Another node has released leases: ask for the missing ones now."""
        self._changed.set()

    async def released(self) -> None:
        """Returns when all partitions that are not wanted are released, also in the store."""
        while self._unreleased or self._holdings.leases.keys() - self._wanted:
            await self._round.wait()

    @property
    def complete(self) -> bool:
        """Whether all wanted partitions are held."""
        return self._holdings.leases.keys() == self._wanted

    @property
    def in_touch(self) -> bool:
        """Whether the store has answered lately."""
        return trio.current_time() - self._answered_at <= self._timing.silence_max_seconds

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Keep the leases until cancelled, then release them. Started when the first round is done."""
        started = False
        renew_at = trio.current_time() + self._timing.renew_seconds
        pause_seconds = self._timing.ask_again_first_seconds
        try:
            while True:
                self._changed = trio.Event()
                try:
                    await self._release(self._holdings.leases.keys() - self._wanted)
                    await self._acquire(self._wanted - self._holdings.leases.keys())
                    if trio.current_time() >= renew_at:
                        renew_at = trio.current_time() + self._timing.renew_seconds
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
                    again_at = min(again_at, trio.current_time() + pause_seconds)
                    pause_seconds = min(2 * pause_seconds, self._timing.ask_again_seconds)
                with trio.move_on_at(again_at):
                    await self._changed.wait()
                    pause_seconds = self._timing.ask_again_first_seconds
        finally:
            with trio.move_on_after(self._timing.release_seconds, shield=True):
                try:
                    await self._release(self._holdings.leases.keys())
                except StoreError as error:
                    log.warning("can't give up the leases, they run out by themselves: %s", error)

    async def _acquire(self, partitions: Collection[int]) -> None:
        if partitions:
            gone = sorted(name for name, until in self._gone.items() if until > trio.current_time())
            acquired = await self._store.acquire(sorted(partitions), self._node, self._timing.lease_ms, gone)
            self._answered_at = trio.current_time()
            not_risen = [lease.partition for lease in acquired if lease.epoch <= self._epochs.get(lease.partition, 0)]
            self._epochs |= {lease.partition: lease.epoch for lease in acquired}
            if not_risen:
                self._note_loss(not_risen)
            self._holdings.add(acquired)

    async def _renew(self) -> None:
        held = list(self._holdings.leases.values())
        if held:
            kept = {lease.partition for lease in await self._store.renew(held, self._node, self._timing.lease_ms)}
            self._answered_at = trio.current_time()
            lost = [lease.partition for lease in held if lease.partition not in kept]
            if lost:
                self._holdings.remove(lost)
                known = {owner.partition for owner in await self._store.owners(lost)}
                taken = [partition for partition in lost if partition in known]
                if taken:
                    log.warning("lost partitions %s: somebody else has taken them", taken)
                if len(taken) < len(lost):
                    self._note_loss([partition for partition in lost if partition not in known])
        else:  # nothing to renew, so this only checks that the store answers
            await self._store.owners([0])
            self._answered_at = trio.current_time()

    def _note_loss(self, partitions: Sequence[int]) -> None:
        for partition in partitions:  # the next lease starts over, so that the loss is reported once
            self._epochs.pop(partition, None)
        self.losses += 1
        log.error(
            "the store has LOST DATA: the leases of %d partitions (%s ...) are older than this node's, or gone. It was"
            " flushed, restored from a backup, or a replica took over that lagged; flows and definitions of that time"
            " are lost, or are what they were before. `python -m orchy verify` says what does not add up",
            len(partitions),
            ", ".join(map(str, partitions[:5])),
        )
        self._loss.set()
        self._loss = trio.Event()

    async def _release(self, partitions: Collection[int]) -> None:
        """First the loops stop working on these partitions, then their leases become free."""
        self._unreleased += [self._holdings.leases[partition] for partition in sorted(partitions)]
        self._holdings.remove(partitions)
        if self._unreleased:
            await self._store.release(self._unreleased, self._node)
            self._unreleased = []
