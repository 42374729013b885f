"""The lease loop: takes the partitions that this node is to own, prolongs what it has, gives up the rest.

A lease that is not prolonged runs out and is free for the next owner. Losing one costs nothing
but the labour: every transition is checked by the store, whoever makes it.

Epochs only rise. One that does not, or a lease that is not there any more, says that the store has lost what it had: it
was flushed, restored from a backup, or a replica took over that had not got everything.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import NoReturn

import attrs
import trio

from orchy.errors import StoreError
from orchy.partition.holdings import Holdings
from orchy.store.leases import Lease, LeaseStore
from orchy.telemetry.unexpected import Where, note

#: How long the store may be silent before this node says that it can't work.
SILENCE_MAX_SECONDS = 5.0
#: After a change, what is missing is asked for again so soon, then after longer and longer pauses.
ASK_AGAIN_FIRST_SECONDS = 0.1
RELEASE_SECONDS = 2.0

log = logging.getLogger(__name__)


@attrs.frozen
class LeaseTiming:
    """How long a lease lasts, how often it is prolonged, how often one that is missing is asked for at least."""

    lease_ms: int = 10_000
    renew_seconds: float = 2.5
    ask_again_seconds: float = 1.0


#: For the gossip's profiles: there is no use in a lease that outlives its owner's death by much.
LEASE_TIMINGS = {"default": LeaseTiming(), "fast": LeaseTiming(5_000, 1.25, 0.5)}


class LeaseKeeper:
    """Keeps the leases of the wanted partitions for one node."""

    def __init__(
        self, store: LeaseStore, node: str, holdings: Holdings, times: LeaseTiming = LEASE_TIMINGS["default"]
    ) -> None:
        self._store = store
        self._node = node
        self._times = times
        self._holdings = holdings
        self._wanted: frozenset[int] = frozenset()
        self._gone: dict[str, float] = {}  # nodes whose leases are taken -> until when
        self._given_up: list[Lease] = []  # not held any more, but the store may not know it yet
        self._changed = trio.Event()
        self._round = trio.Event()
        self._answered_at = float("-inf")
        self._epochs: dict[int, int] = {}  # the highest that this node has had of each partition
        self._loss = trio.Event()
        #: How often the store turned out to have lost what it had.
        self.losses = 0

    async def wait_for_loss(self) -> None:
        """Returns when the store turns out to have lost what it had."""
        await self._loss.wait()

    def want(self, partitions: Collection[int], gone: Collection[str] = ()) -> None:
        """Own exactly these from now on. What a node that is `gone` holds of them is taken, not waited for.

        Only for as long as such a lease may last: after that it is free anyway, or held by one that has come back.
        """
        self._wanted = frozenset(partitions)
        self._gone = {name: self._gone.get(name) or self._run_out() for name in gone}
        self._changed.set()

    def _run_out(self) -> float:
        """When a lease that was renewed just now runs out."""
        return trio.current_time() + self._times.lease_ms / 1000

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
        pause_seconds = ASK_AGAIN_FIRST_SECONDS
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
                    again_at = min(again_at, trio.current_time() + pause_seconds)
                    pause_seconds = min(2 * pause_seconds, self._times.ask_again_seconds)
                with trio.move_on_at(again_at):
                    await self._changed.wait()
                    pause_seconds = ASK_AGAIN_FIRST_SECONDS
        finally:
            with trio.move_on_after(RELEASE_SECONDS, shield=True):
                try:
                    await self._release(self._holdings.leases.keys())
                except StoreError as error:
                    log.warning("can't give up the leases, they run out by themselves: %s", error)

    async def _acquire(self, partitions: Collection[int]) -> None:
        if partitions:
            gone = sorted(name for name, until in self._gone.items() if until > trio.current_time())
            acquired = await self._store.acquire(sorted(partitions), self._node, self._times.lease_ms, gone)
            self._answered_at = trio.current_time()
            older = [one.partition for one in acquired if one.epoch <= self._epochs.get(one.partition, 0)]
            self._epochs |= {one.partition: one.epoch for one in acquired}
            if older:
                self._note_loss(older)
            self._holdings.add(acquired)

    async def _renew(self) -> None:
        held = list(self._holdings.leases.values())
        if held:
            kept = {lease.partition for lease in await self._store.renew(held, self._node, self._times.lease_ms)}
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
        else:  # nothing to prolong: is the store there?
            await self._store.owners([0])
            self._answered_at = trio.current_time()

    def _note_loss(self, partitions: Sequence[int]) -> None:
        for partition in partitions:  # told once: what is taken from now on begins anew
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
        """The loops stop working on the partitions first, then the leases are free."""
        self._given_up += [self._holdings.leases[partition] for partition in sorted(partitions)]
        self._holdings.remove(partitions)
        if self._given_up:
            await self._store.release(self._given_up, self._node)
            self._given_up = []
