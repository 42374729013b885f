"""Who hands out work: polls and streams on one side, partitions that are known to have some on the other.

A poll asks the store only where there is work for its action, as far as this node knows: its own commits,
wake-ups from other nodes and the owner's look at each partition say so (`ready`). So a poll for which there is
nothing costs no call at all, and one that waits is answered as soon as work appears.

A stream's demand is asked for a place by each commit of this node that makes work (`reserve`): where there is one, and
no queue is known to hold something older, the commit itself hands the attempt out, and it passes through no queue.

What is known can be too much (another node was faster: one call for nothing) but never too little for longer
than the owner's next look.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable
from itertools import count

import trio

from orchy.demand import Demand
from orchy.errors import StoreError
from orchy.store.base import BATCH_MAX, Claimed, FlowStore

#: How many partitions one claim asks; the next claim asks the others.
PARTITIONS_PER_CLAIM = 32
#: How long a client that is gone is cared for.
GIVE_BACK_SECONDS = 10.0
#: When a claim for a stream failed, the next one is made after so long.
CLAIM_AGAIN_SECONDS = 1.0

log = logging.getLogger(__name__)


class Dispatcher:
    """The work that this node knows of, and the polls that wait for some."""

    def __init__(self, store: FlowStore, batch_size: int = BATCH_MAX) -> None:
        self._store = store
        self._batch_size = batch_size
        # action -> partition -> when it was last said to have work. The number tells a claim that found a
        # partition empty whether that was said again while it was under way.
        self._ready: dict[str, dict[int, int]] = {}
        self._said = count()
        self._waiting: dict[str, deque[trio.Event]] = {}
        self._demands: dict[str, deque[Demand]] = {}
        self._owned: Collection[int] = frozenset()
        self._open = True

    def own(self, partitions: Collection[int]) -> None:
        """The partitions to hand out from are these now; what was known of others is forgotten."""
        self._owned = frozenset(partitions)
        for action_name in list(self._ready):
            known = self._ready[action_name]
            for partition in [p for p in known if p not in self._owned]:
                del known[partition]
            if not known:
                del self._ready[action_name]

    def ready(self, partition: int, action_names: Iterable[str]) -> None:
        """There is work for these actions in an owned partition; others are passed over."""
        if partition not in self._owned:
            return
        for action_name in action_names:
            self._ready.setdefault(action_name, {})[partition] = next(self._said)
            self._wake_one(action_name)

    def close(self) -> None:
        """Answer all polls from now on, and those that wait, with nothing: the server is about to stop."""
        self._open = False
        for demands in self._demands.values():
            for demand in demands:
                demand.close()
        for waiting in self._waiting.values():
            for event in waiting:
                event.set()

    @property
    def waiting(self) -> int:
        """How many polls wait for work."""
        return sum(len(events) for events in self._waiting.values())

    @property
    def reserved(self) -> int:
        """How many places of streams are kept for what is on its way."""
        return sum(demand.reserved for demands in self._demands.values() for demand in demands)

    async def poll(self, action_name: str, limit: int, wait_seconds: float, worker: str) -> list[bytes]:
        """At most `limit` attempts of an action, as the queue holds them; waits for the first up to `wait_seconds`.

        Empty when none came in time. Raises what the store raises.
        """
        claimed = await self._find(action_name, min(limit, self._batch_size), wait_seconds, worker)
        if claimed is None:
            return []
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:  # the client went away while its claim was under way
            await self.give_back(action_name, claimed)
            raise
        return list(claimed.bodies)

    async def hand_out(self, demand: Demand) -> None:
        """Fill a demand, as work appears and for as long as there is credit; until it is closed, or cancelled.

        What is handed out is delivered, whatever happens: whoever is cancelled gives back what nobody takes.
        """
        if not self._open:
            return
        name = demand.action_name
        demands = self._demands.setdefault(name, deque())
        demands.append(demand)
        try:
            while await demand.wanted():
                if not await self._fill(demand):
                    await self._wait(name)
                    if demand.credit <= 0:  # meanwhile others filled it
                        self._wake_one(name)
        finally:
            demands.remove(demand)
            if not demands:
                del self._demands[name]

    async def _fill(self, demand: Demand) -> bool:
        """Claim for a demand; False: there is nothing known to claim."""
        if not self._ready.get(demand.action_name):
            return False
        places = min(demand.credit, self._batch_size)
        demand.reserve(places)
        claimed: Claimed | None = None
        failed = False
        try:
            with trio.CancelScope(shield=True):
                claimed = await self._claim(demand.action_name, places, demand.worker)
        except StoreError as error:
            log.warning("no work of %s could be claimed: %s", demand.action_name, error)
            failed = True
        finally:
            demand.settle(claimed, places)
        if failed:  # the places are free meanwhile: a commit may have use for them
            await trio.sleep(CLAIM_AGAIN_SECONDS)
        return True

    def reserve(self, action_name: str) -> Demand | None:
        """A place for an attempt that a commit is about to make; None: it goes into its queue."""
        demands = self._demands.get(action_name)
        if demands is None or action_name in self._ready:
            return None
        for _ in range(len(demands)):
            demand = demands[0]
            demands.rotate(-1)  # the next one has the next turn
            if demand.credit > 0:
                demand.reserve()
                return demand
        return None

    async def _find(self, action_name: str, limit: int, wait_seconds: float, worker: str) -> Claimed | None:
        """Claim, wait and claim again until there is something or the time is over."""
        with trio.move_on_after(wait_seconds) as waited:
            while self._open:
                # The time-out ends the wait for work, never a claim: what it got would be lost.
                with trio.CancelScope(shield=True):
                    claimed = await self._claim(action_name, limit, worker)
                if claimed is not None:
                    return claimed
                if waited.cancel_called or wait_seconds <= 0:
                    return None
                await self._wait(action_name)
        return None

    async def give_back(self, action_name: str, claimed: Claimed) -> None:
        """Others shall have what nobody can be given; if the store can't be told, it comes back by its time-out."""
        left, given_back = len(claimed.bodies), 0
        reason = "the store does not answer"
        with trio.move_on_after(GIVE_BACK_SECONDS, shield=True):
            try:
                while left:  # the last ones first: so the first ones come to the very front
                    part = slice(max(0, left - BATCH_MAX), left)
                    receipts = claimed.receipts[part]
                    given_back += await self._store.give_back(Claimed(claimed.bodies[part], (), receipts))
                    left = part.start
                    for receipt in receipts:
                        self.ready(receipt.partition, [action_name])
            except StoreError as error:
                reason = str(error)
        if left:
            log.warning("%d attempts of %s come back by their time-outs: %s", left, action_name, reason)
        if given_back:
            log.info("%d attempts of %s went back into their queues: their worker has gone", given_back, action_name)

    async def _claim(self, action_name: str, limit: int, worker: str) -> Claimed | None:
        """Claim where work is known to be, until there is some or nowhere is left."""
        while self._open and (known := self._ready.get(action_name)):
            asked = dict(list(known.items())[:PARTITIONS_PER_CLAIM])
            claimed = await self._store.claim(action_name, list(asked), limit, worker)
            for partition in claimed.emptied:
                if known.get(partition) == asked[partition]:
                    del known[partition]
            for partition in asked:  # to the end of the row, so that each has its turn
                if partition in known:
                    known[partition] = known.pop(partition)
            if not known and self._ready.get(action_name) is known:
                del self._ready[action_name]
            if claimed.bodies:
                if known:
                    self._wake_one(action_name)
                return claimed
        return None

    async def _wait(self, action_name: str) -> None:
        event = trio.Event()
        waiting = self._waiting.setdefault(action_name, deque())
        waiting.append(event)
        try:
            await event.wait()
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:
            if event.is_set():  # woken, but gone: somebody else shall look
                self._wake_one(action_name)
            raise
        finally:
            if not event.is_set():
                waiting.remove(event)
            if not waiting and self._waiting.get(action_name) is waiting:
                del self._waiting[action_name]

    def _wake_one(self, action_name: str) -> None:
        waiting = self._waiting.get(action_name)
        if waiting:
            waiting.popleft().set()
