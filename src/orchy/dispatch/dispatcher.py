"""Matches work with workers: partitions known to have some on one side, polls and streams on the other.

A poll asks the store only where this node knows of work for its action: its own commits, wake-ups from other nodes and
the scan of each owned partition report it (`ready`). So a poll for which there is nothing costs no call at all, and a
waiting one is answered as soon as work appears.

A commit of this node that creates work first tries to reserve a place in a stream's demand (`reserve`). If it gets
one, and no queue is known to hold anything older, the commit hands the attempt out itself, without a queue.

For a while this node also knows of work in other nodes' partitions, when their owners offer it (`offered`, see
`offers`) because nobody asks for it there.

This knowledge may include too much (another node was faster: one call for nothing), but it never lacks anything for
longer than until the owner's next scan.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import count

import trio

from orchy.dispatch.demand import Demand
from orchy.dispatch.limits import LIMITS, TIMING, DispatchLimits, DispatchTiming
from orchy.errors import StoreError
from orchy.runtime.callbacks import ignore
from orchy.store.limits import BATCH_MAX
from orchy.store.queues import Claimed, QueueStore

log = logging.getLogger(__name__)


class Dispatcher:
    """The work that this node knows of, and the polls and streams that wait for some."""

    def __init__(
        self,
        store: QueueStore,
        batch_size: int = BATCH_MAX,
        limits: DispatchLimits = LIMITS,
        timing: DispatchTiming = TIMING,
    ) -> None:
        self._store = store
        self._batch_size = batch_size
        self._limits = limits
        self._timing = timing
        # action -> partition -> number of the last report of work there. By the number, a claim that found the
        # partition empty sees whether there was another report while it was under way.
        self._ready: dict[str, dict[int, int]] = {}
        self._reports = count()
        self._waiting: dict[str, deque[trio.Event]] = {}
        self._demands: dict[str, deque[Demand]] = {}
        self._owned: Collection[int] = frozenset()
        self._offered: dict[str, dict[int, float]] = {}  # action -> partition of another node -> until when
        self._asked_at: dict[str, float] = {}  # action -> when a poll last came back empty
        #: Called with work that nobody here would take.
        self.on_unwanted: Callable[[int, str], None] = ignore
        #: Called when partitions of other nodes turn out to have no more of what was offered.
        self.on_emptied: Callable[[str, Sequence[int]], None] = ignore
        self._open = True
        #: Attempts handed out to polls so far.
        self.handed_out = 0

    def own(self, partitions: Collection[int]) -> None:
        """These are the owned partitions now. What was known of others is forgotten, unless it was offered."""
        self._owned = frozenset(partitions)
        for action_name in list(self._ready):
            offered = self._offered.get(action_name, ())
            self._forget(
                action_name, [p for p in self._ready[action_name] if p not in self._owned and p not in offered]
            )

    def _forget(self, action_name: str, partitions: Iterable[int]) -> None:
        """These are no longer known to have work."""
        known = self._ready.get(action_name)
        if known is not None:
            for partition in partitions:
                known.pop(partition, None)
            if not known:
                del self._ready[action_name]

    def ready(self, partition: int, action_names: Iterable[str]) -> None:
        """There is work for these actions; ignored if the partition is not owned."""
        if partition not in self._owned:
            return
        for action_name in action_names:
            self._ready.setdefault(action_name, {})[partition] = next(self._reports)
            if not self.wants(action_name):
                self.on_unwanted(partition, action_name)
            self._wake_one(action_name)

    # Offers between nodes.

    def wants(self, action_name: str) -> bool:
        """Whether an attempt would be taken here: by a stream, a waiting poll, or one that is expected soon."""
        demands = self._demands.get(action_name, ())
        if any(demand.credit > 0 for demand in demands):
            return True
        if len(self._waiting.get(action_name, ())) > len(demands):  # a demand waits at most once, so one is a poll
            return True
        asked_at = self._asked_at.get(action_name)
        return asked_at is not None and trio.current_time() - asked_at < self._timing.asked_seconds

    def unclaimed(self) -> dict[str, list[int]]:
        """The owned partitions that are known to have work, by action."""
        found = {name: [p for p in known if p in self._owned] for name, known in self._ready.items()}
        return {name: partitions for name, partitions in found.items() if partitions}

    def offered(self, action_name: str, partitions: Iterable[int]) -> None:
        """The owner of these partitions has work for an action that nobody takes there."""
        self._drop_old_offers()
        if action_name not in self._offered and len(self._offered) >= self._limits.offered_actions_max:
            return
        until = trio.current_time() + self._timing.offered_seconds
        for partition in partitions:
            self._ready.setdefault(action_name, {})[partition] = next(self._reports)
            if partition not in self._owned:
                self._offered.setdefault(action_name, {})[partition] = until
        self._wake_one(action_name)

    def emptied(self, action_name: str, partitions: Iterable[int]) -> None:
        """Other nodes have taken all work of an action in these; the next scan finds what has come since."""
        self._forget(action_name, [partition for partition in partitions if partition in self._owned])

    def _drop_old_offers(self) -> None:
        now = trio.current_time()
        for action_name, offered in list(self._offered.items()):
            old = [partition for partition, until in offered.items() if until <= now]
            for partition in old:
                del offered[partition]
            self._forget(action_name, [partition for partition in old if partition not in self._owned])
            if not offered:
                del self._offered[action_name]

    def _note_asked(self, action_name: str) -> None:
        self._asked_at.pop(action_name, None)  # keeps the dict ordered by time
        self._asked_at[action_name] = trio.current_time()
        if len(self._asked_at) > self._limits.offered_actions_max:
            del self._asked_at[next(iter(self._asked_at))]

    def close(self) -> None:
        """The server is about to stop: answer all polls, waiting and new, with nothing."""
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
        """How many places of streams are reserved."""
        return sum(demand.reserved for demands in self._demands.values() for demand in demands)

    async def poll(
        self, action_name: str, limit: int, wait_seconds: float, worker: str, lease_ms: int = 0
    ) -> list[bytes]:
        """At most `limit` attempts of an action, as the queue holds them; waits up to `wait_seconds` for the first.

        `lease_ms` other than 0: they are leased. Empty when none came in time. Raises what the store raises.
        """
        claimed = await self._find(action_name, min(limit, self._batch_size), wait_seconds, worker, lease_ms)
        if claimed is None:
            self._note_asked(action_name)
            return []
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:  # the client went away while its claim was under way
            await self.give_back(action_name, claimed)
            raise
        self.handed_out += len(claimed.bodies)
        return list(claimed.bodies)

    async def hand_out(self, demand: Demand) -> None:
        """Fill a demand as work appears, while it has credit; until it is closed, or this is cancelled.

        What was claimed is always delivered, even after a cancellation: the caller gives back what it can't use.
        """
        if not self._open:
            return
        name = demand.action_name
        demands = self._demands.setdefault(name, deque())
        demands.append(demand)
        try:
            while await demand.wait_for_credit():
                if not await self._fill(demand):
                    await self._wait(name)
                    if demand.credit <= 0:  # commits have filled it meanwhile
                        self._wake_one(name)
        finally:
            demands.remove(demand)
            if not demands:
                del self._demands[name]

    async def _fill(self, demand: Demand) -> bool:
        """Claim for a demand; False: no work is known."""
        if not self._ready.get(demand.action_name):
            return False
        places = min(demand.credit, self._batch_size)
        demand.reserve(places)
        claimed: Claimed | None = None
        failed = False
        try:
            with trio.CancelScope(shield=True):
                claimed = await self._claim(demand.action_name, places, demand.worker, demand.lease_ms)
        except StoreError as error:
            log.warning("no work of %s could be claimed: %s", demand.action_name, error)
            failed = True
        finally:
            demand.settle(claimed, places)
        if failed:  # the places are free during the pause: a commit may use them
            await trio.sleep(self._timing.claim_again_seconds)
        return True

    def reserve(self, action_name: str) -> Demand | None:
        """A reserved place for an attempt that a commit is about to create; None: it has to go through its queue."""
        demands = self._demands.get(action_name)
        if demands is None or action_name in self._ready:
            return None
        for _ in range(len(demands)):
            demand = demands[0]
            demands.rotate(-1)  # round robin
            if demand.credit > 0:
                demand.reserve()
                return demand
        return None

    async def _find(
        self, action_name: str, limit: int, wait_seconds: float, worker: str, lease_ms: int
    ) -> Claimed | None:
        """Claim, wait and claim again until there is something or the time is over."""
        with trio.move_on_after(wait_seconds) as waited:
            while self._open:
                # Only the wait may time out: what a cancelled claim got would be lost.
                with trio.CancelScope(shield=True):
                    claimed = await self._claim(action_name, limit, worker, lease_ms)
                if claimed is not None:
                    return claimed
                if waited.cancel_called or wait_seconds <= 0:
                    return None
                await self._wait(action_name)
        return None

    async def give_back(self, action_name: str, claimed: Claimed) -> None:
        """Return attempts that could not be delivered to the fronts of their queues.

        Where the store does not take them in time, they come back by their timeouts.
        """
        left, given_back = len(claimed.bodies), 0
        reason = "the store does not answer"
        with trio.move_on_after(self._timing.give_back_seconds, shield=True):
            try:
                while left:  # the last ones first, so that the first ones end up in front of them
                    part = slice(max(0, left - BATCH_MAX), left)
                    receipts = claimed.receipts[part]
                    given_back += await self._store.give_back(Claimed(claimed.bodies[part], (), receipts))
                    left = part.start
                    for receipt in receipts:
                        self.ready(receipt.partition, [action_name])
            except StoreError as error:
                reason = str(error)
        if left:
            log.warning("%d attempts of %s come back by their timeouts: %s", left, action_name, reason)
        if given_back:
            log.info("%d attempts of %s went back into their queues: their worker has gone", given_back, action_name)

    async def _claim(self, action_name: str, limit: int, worker: str, lease_ms: int) -> Claimed | None:
        """Claim where work is known, until some is found or no such place is left."""
        if self._offered:
            self._drop_old_offers()
        while self._open and (known := self._ready.get(action_name)):
            asked = dict(list(known.items())[: self._limits.partitions_per_claim])
            claimed = await self._store.claim(action_name, list(asked), limit, worker, lease_ms)
            for partition in claimed.emptied:
                if known.get(partition) == asked[partition]:
                    del known[partition]
            if action_name in self._offered:
                self._note_emptied(action_name, claimed.emptied)
            for partition in asked:  # move to the end, so that each partition gets its turn
                if partition in known:
                    known[partition] = known.pop(partition)
            if not known and self._ready.get(action_name) is known:
                del self._ready[action_name]
            if claimed.bodies:
                if known:
                    self._wake_one(action_name)
                return claimed
        return None

    def _note_emptied(self, action_name: str, emptied: Iterable[int]) -> None:
        offered = self._offered[action_name]
        gone = [partition for partition in emptied if offered.pop(partition, None) is not None]
        if not offered:
            del self._offered[action_name]
        if gone:
            self.on_emptied(action_name, gone)

    async def _wait(self, action_name: str) -> None:
        event = trio.Event()
        waiting = self._waiting.setdefault(action_name, deque())
        waiting.append(event)
        try:
            await event.wait()
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:
            if event.is_set():  # woken and cancelled at once: pass the wake-up on
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
