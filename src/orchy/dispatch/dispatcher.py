"""Who hands out work: polls and streams on one side, partitions that are known to have some on the other.

A poll asks the store only where there is work for its action, as far as this node knows: its own commits,
wake-ups from other nodes and the owner's look at each partition say so (`ready`). So a poll for which there is
nothing costs no call at all, and one that waits is answered as soon as work appears.

A stream's demand is asked for a place by each commit of this node that makes work (`reserve`): where there is one, and
no queue is known to hold something older, the commit itself hands the attempt out, and it passes through no queue.

Work of other nodes' partitions is known too, for a while, where their owners offer it (`offered`, see `offers`): nobody
may have asked there.

What is known can be too much (another node was faster: one call for nothing) but never too little for longer
than the owner's next look.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import count

import trio

from orchy.dispatch.demand import Demand
from orchy.errors import StoreError
from orchy.store.limits import BATCH_MAX
from orchy.store.queues import Claimed, QueueStore

#: How many partitions one claim asks; the next claim asks the others.
PARTITIONS_PER_CLAIM = 32
#: How long a client that is gone is cared for.
GIVE_BACK_SECONDS = 10.0
#: When a claim for a stream failed, the next one is made after so long.
CLAIM_AGAIN_SECONDS = 1.0
#: For so long what other nodes offer is known: somebody may ask for it who polls once a second.
OFFERED_SECONDS = 5.0
#: The most actions of which others' offers are known, and of which it is known that somebody asked in vain.
OFFERED_ACTIONS_MAX = 1_000
#: Whoever asked in vain will ask again within this time.
ASKED_SECONDS = 2.5

log = logging.getLogger(__name__)


class Dispatcher:
    """The work that this node knows of, and the polls that wait for some."""

    def __init__(self, store: QueueStore, batch_size: int = BATCH_MAX) -> None:
        self._store = store
        self._batch_size = batch_size
        # action -> partition -> when it was last said to have work. The number tells a claim that found a
        # partition empty whether that was said again while it was under way.
        self._ready: dict[str, dict[int, int]] = {}
        self._said = count()
        self._waiting: dict[str, deque[trio.Event]] = {}
        self._demands: dict[str, deque[Demand]] = {}
        self._owned: Collection[int] = frozenset()
        self._offered: dict[str, dict[int, float]] = {}  # action -> partition of another node -> until when
        self._asked_at: dict[str, float] = {}  # action -> when a poll was answered with nothing
        self.on_unwanted: Callable[[int, str], None] = _nobody
        self.on_emptied: Callable[[str, Sequence[int]], None] = _nobody
        self._open = True
        self.handed_out = 0  # to polls, in all

    def own(self, partitions: Collection[int]) -> None:
        """The partitions to hand out from are these now; what was known of others is forgotten, if not just offered."""
        self._owned = frozenset(partitions)
        for action_name in list(self._ready):
            offered = self._offered.get(action_name, ())
            self._forget(
                action_name, [p for p in self._ready[action_name] if p not in self._owned and p not in offered]
            )

    def _forget(self, action_name: str, partitions: Iterable[int]) -> None:
        """These have no work, as far as is known."""
        known = self._ready.get(action_name)
        if known is not None:
            for partition in partitions:
                known.pop(partition, None)
            if not known:
                del self._ready[action_name]

    def ready(self, partition: int, action_names: Iterable[str]) -> None:
        """There is work for these actions in an owned partition; others are passed over."""
        if partition not in self._owned:
            return
        for action_name in action_names:
            self._ready.setdefault(action_name, {})[partition] = next(self._said)
            if not self.wants(action_name):
                self.on_unwanted(partition, action_name)
            self._wake_one(action_name)

    # What other nodes may take.

    def wants(self, action_name: str) -> bool:
        """Whether somebody here would take an attempt: a stream, a poll that waits, or one that comes again."""
        demands = self._demands.get(action_name, ())
        if any(demand.credit > 0 for demand in demands):
            return True
        if len(self._waiting.get(action_name, ())) > len(demands):  # a demand waits at most once: one is a poll
            return True
        asked_at = self._asked_at.get(action_name)
        return asked_at is not None and trio.current_time() - asked_at < ASKED_SECONDS

    def unclaimed(self) -> dict[str, list[int]]:
        """The partitions of this node that have work, as far as is known, by action."""
        found = {name: [p for p in known if p in self._owned] for name, known in self._ready.items()}
        return {name: partitions for name, partitions in found.items() if partitions}

    def offered(self, action_name: str, partitions: Iterable[int]) -> None:
        """Their owner says that these have work for an action that nobody takes there."""
        self._drop_offers()
        if action_name not in self._offered and len(self._offered) >= OFFERED_ACTIONS_MAX:
            return
        until = trio.current_time() + OFFERED_SECONDS
        for partition in partitions:
            self._ready.setdefault(action_name, {})[partition] = next(self._said)
            if partition not in self._owned:
                self._offered.setdefault(action_name, {})[partition] = until
        self._wake_one(action_name)

    def emptied(self, action_name: str, partitions: Iterable[int]) -> None:
        """Others have taken all work of an action in these; if there is more since, the next look says so."""
        self._forget(action_name, [partition for partition in partitions if partition in self._owned])

    def _drop_offers(self) -> None:
        """Forget what was offered a while ago."""
        now = trio.current_time()
        for action_name, offered in list(self._offered.items()):
            old = [partition for partition, until in offered.items() if until <= now]
            for partition in old:
                del offered[partition]
            self._forget(action_name, [partition for partition in old if partition not in self._owned])
            if not offered:
                del self._offered[action_name]

    def _note_asked(self, action_name: str) -> None:
        self._asked_at.pop(action_name, None)  # to the end
        self._asked_at[action_name] = trio.current_time()
        if len(self._asked_at) > OFFERED_ACTIONS_MAX:
            del self._asked_at[next(iter(self._asked_at))]

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

    async def poll(
        self, action_name: str, limit: int, wait_seconds: float, worker: str, lease_ms: int = 0
    ) -> list[bytes]:
        """At most `limit` attempts of an action, as the queue holds them; waits for the first up to `wait_seconds`.

        With `lease_ms` they are leased for so long. Empty when none came in time. Raises what the store raises.
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
        """Fill a demand, as work appears and for as long as there is credit; until it is closed, or cancelled.

        What is handed out is delivered, whatever happens: whoever is cancelled gives back what nobody takes.
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
                claimed = await self._claim(demand.action_name, places, demand.worker, demand.lease_ms)
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

    async def _find(
        self, action_name: str, limit: int, wait_seconds: float, worker: str, lease_ms: int
    ) -> Claimed | None:
        """Claim, wait and claim again until there is something or the time is over."""
        with trio.move_on_after(wait_seconds) as waited:
            while self._open:
                # The timeout ends the wait for work, never a claim: what it got would be lost.
                with trio.CancelScope(shield=True):
                    claimed = await self._claim(action_name, limit, worker, lease_ms)
                if claimed is not None:
                    return claimed
                if waited.cancel_called or wait_seconds <= 0:
                    return None
                await self._wait(action_name)
        return None

    async def give_back(self, action_name: str, claimed: Claimed) -> None:
        """Others shall have what nobody can be given; if the store can't be told, it comes back by its timeout."""
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
            log.warning("%d attempts of %s come back by their timeouts: %s", left, action_name, reason)
        if given_back:
            log.info("%d attempts of %s went back into their queues: their worker has gone", given_back, action_name)

    async def _claim(self, action_name: str, limit: int, worker: str, lease_ms: int) -> Claimed | None:
        """Claim where work is known to be, until there is some or nowhere is left."""
        if self._offered:
            self._drop_offers()
        while self._open and (known := self._ready.get(action_name)):
            asked = dict(list(known.items())[:PARTITIONS_PER_CLAIM])
            claimed = await self._store.claim(action_name, list(asked), limit, worker, lease_ms)
            for partition in claimed.emptied:
                if known.get(partition) == asked[partition]:
                    del known[partition]
            if action_name in self._offered:
                self._note_emptied(action_name, claimed.emptied)
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


def _nobody(*_: object) -> None:
    """Nobody listens yet."""
