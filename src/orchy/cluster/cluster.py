"""Members -> owners -> leases: which partitions this node is to hold, and how nodes wake each other.

The `Membership` knows the members; the ring maps partitions to those that are ready, in the same way on every node. A
change counts after a debounce, so that a burst of joins moves partitions once. Then the lease keeper takes or releases
what has changed. A node that is known to be gone is the exception: there is no debounce, and its leases are taken
before they expire.

A partition whose owner is alive but does not take its lease is adopted by the next node in line, for a while. A node
that stops announces it first: the others take over while it still serves, and are told when its leases are free.

A commit that puts work or an early timer into a partition of another node sends that node a wake-up, one datagram that
may be lost: the owner scans its partitions at least once a second anyway.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NoReturn, Protocol

import attrs
import trio

from orchy.cluster.timing import CLUSTER_TIMING, ClusterTiming
from orchy.cluster.wakeups import ANY_PARTITION, as_wakeup, pack, unpack
from orchy.errors import StoreError
from orchy.flow.definition import JSON
from orchy.partition.holdings import Holdings
from orchy.partition.leases import LeaseKeeper
from orchy.runtime.callbacks import ignore
from orchy.store.leases import LeaseStore
from orchy.telemetry.unexpected import Where, note, survive

#: The number of fields of a message of `dispatch.offers`.
OFFER_FIELDS = 4

log = logging.getLogger(__name__)


@attrs.frozen
class Member:
    """A node as this node sees it. `state` is alive, suspect, dead or left; addresses are "host:port".

    `gone`: it is dead, and its host confirms that there is no such process.
    """

    name: str
    state: str
    incarnation: int
    gossip_address: str
    http_address: str
    grpc_address: str
    ready: bool
    round_trip_ms: float | None = None
    #: Whether it is in the store's list of nodes. One that is not is shown, and counts for nothing else.
    registered: bool = True
    gone: bool = False

    @property
    def live(self) -> bool:
        """Whether it may be working: a suspicion alone changes nothing."""
        return self.state in ("alive", "suspect")


class Membership(Protocol):
    """The members of the cluster, and messages to them."""

    def members(self) -> Sequence[Member]:
        """All known members, this node among them."""
        ...

    async def changed(self) -> None:
        """Returns when something about the members has changed since the call."""
        ...

    def announce_ready(self, ready: bool) -> None:
        """Tell the others whether this node works."""
        ...

    def send(self, node: str, message: bytes) -> None:
        """Send one datagram to a member, best effort."""
        ...


class Cluster:
    """This node's part in the cluster: its partitions, its readiness, and messages from and to other nodes."""

    def __init__(
        self,
        *,
        node: str,
        partitions: int,
        membership: Membership,
        owners: Callable[[Collection[str], int], Sequence[str]],
        successors: Callable[[Collection[str], int], Sequence[str]],
        keeper: LeaseKeeper,
        holdings: Holdings,
        store: LeaseStore,
        timing: ClusterTiming = CLUSTER_TIMING,
    ) -> None:
        self._node = node
        self._partitions = partitions
        self._membership = membership
        self._owners_of = owners
        self._successors_of = successors
        self._keeper = keeper
        self._holdings = holdings
        self._store = store
        self._timing = timing
        self._owners: Sequence[str] = ()
        self._working: frozenset[str] = frozenset()
        self._gone: frozenset[str] = frozenset()
        self._peers: Sequence[str] = ()
        self._unheld: dict[int, int] = {}  # partition -> how many looks in a row found no holder
        self._adopted: dict[int, float] = {}  # partition -> until when
        self._served = False
        self._draining = False
        #: Malformed messages of other nodes.
        self.wakeups_dropped = 0
        #: Called with work in an owned partition, with an early timer of one, and with the fields of an offer.
        self.on_enqueued: Callable[[int, Sequence[str]], None] = ignore
        self.on_timer_set: Callable[[int, int], None] = ignore
        self.on_offer: Callable[[object, object, object, object], bool] = lambda *_: False

    # Questions.

    @property
    def ready(self) -> bool:
        """Whether this node serves: the store answers, the first partitions are taken, and it is not stopping."""
        self._served = self._served or (bool(self._owners) and self._keeper.complete)
        return self._served and self._keeper.in_touch and not self._draining

    def servers(self) -> list[tuple[str, str]]:
        """(name, gRPC address) of the live, registered members that are ready, or of all of them if none is."""
        live = [
            member for member in self._membership.members() if member.live and member.registered and member.grpc_address
        ]
        working = [member for member in live if member.ready or (member.name == self._node and self.ready)]
        return [(member.name, member.grpc_address) for member in working or live]

    async def describe(self) -> dict[str, JSON]:
        """The body of `GET /cluster`. Raises StoreError."""
        owners = await self._store.owners(range(self._partitions))
        by_partition = {owner.partition: owner for owner in owners}
        partitions: list[JSON] = []
        for partition in range(self._partitions):
            owner = by_partition.get(partition)
            held = owner is not None and owner.remaining_ms > 0
            partitions.append(
                {
                    "id": partition,
                    "owner": owner.node if owner and held else None,
                    "epoch": owner.epoch if owner else 0,
                }
            )
        return {
            "node": self._node,
            "members": [
                {
                    "name": member.name,
                    "state": member.state,
                    "incarnation": member.incarnation,
                    "gossip": member.gossip_address,
                    "http": member.http_address,
                    "grpc": member.grpc_address,
                    "ready": member.ready,
                    "registered": member.registered,
                    "roundTripMs": member.round_trip_ms,
                }
                for member in self._membership.members()
            ],
            "partitions": partitions,
        }

    # Wake-ups.

    def enqueued(self, partition: int, action_names: Sequence[str]) -> None:
        """There is work in a partition: wake its owner."""
        if partition in self._holdings.leases:
            self.on_enqueued(partition, action_names)
        else:
            self._wake_owner(partition, list(action_names), None)

    def timer_set(self, partition: int, after_ms: int) -> None:
        """A timer was set in a partition: wake its owner."""
        if partition in self._holdings.leases:
            self.on_timer_set(partition, after_ms)
        else:
            self._wake_owner(partition, [], after_ms)

    def receive(self, message: bytes) -> None:
        """Handle a wake-up or an offer of another node; anything else is dropped."""
        fields = unpack(message)
        wakeup = as_wakeup(fields)
        if wakeup is None:
            if len(fields) != OFFER_FIELDS or not self.on_offer(*fields):
                self.wakeups_dropped += 1
                log.debug("dropped a wake-up that is none: %r", message[:100])
            return
        partition, action_names, after_ms = wakeup
        if partition in self._holdings.leases:
            if action_names:
                self.on_enqueued(partition, action_names)
            if after_ms is not None:
                self.on_timer_set(partition, after_ms)
        elif partition == ANY_PARTITION and not self._keeper.complete:
            self._keeper.ask_again()

    # The port `dispatch.offers.Peers`.

    def peers(self) -> Sequence[str]:
        """The other nodes that are ready, by name."""
        return self._peers

    def owner_of(self, partition: int) -> str | None:
        """Which node should hold a partition; None if that is unknown, or there is no such partition."""
        return self._owners[partition] if 0 <= partition < len(self._owners) else None

    def send_offer(self, node: str, kind: str, action_name: str, partitions: Sequence[int]) -> None:
        """Send an offer, or an answer to one."""
        packed = pack(kind, self._node, action_name, list(partitions))
        if node != self._node and packed is not None:
            self._membership.send(node, packed)

    def _wake_owner(self, partition: int, action_names: list[str], after_ms: int | None) -> None:
        if not self._owners or self._owners[partition] == self._node:
            return  # this node is about to take it, and its first scan finds the work
        packed = pack(partition, action_names, after_ms)
        if packed is not None:
            self._membership.send(self._owners[partition], packed)

    # Loops.

    async def run(self) -> NoReturn:
        """Follow the members, the store and the leases, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._adopt)
            while True:
                with survive(Where.MEMBERS, "who owns which partition"):
                    self._membership.announce_ready(self._keeper.in_touch and not self._draining)
                    self._apply()
                with trio.move_on_after(self._timing.refresh_seconds):
                    await self._membership.changed()
                    await self._settle()

    async def hand_over(self) -> None:
        """Announce that this node stops, and hand its partitions to the others; returns when they can have them."""
        self._draining = True
        self._membership.announce_ready(False)
        others = self._others()
        if others:
            log.info("handing %d partitions over to %d other nodes", len(self._holdings.leases), len(others))
            await trio.sleep(self._timing.handover_seconds)
            self._keeper.want(())
            with trio.move_on_after(self._timing.release_seconds):
                await self._keeper.released()
            released = pack(ANY_PARTITION, [], None)
            assert released is not None
            for name in others:
                self._membership.send(name, released)

    async def _settle(self) -> None:
        """The debounce. It ends early when a node is gone, or one that was gone has come back."""
        with trio.move_on_after(self._timing.debounce_seconds):
            while self._gone_now() == self._gone:
                await self._membership.changed()

    def _gone_now(self) -> frozenset[str]:
        return frozenset(member.name for member in self._membership.members() if member.gone)

    def _others(self) -> list[str]:
        members = self._membership.members()
        return [
            member.name
            for member in members
            if member.live and member.registered and member.ready and member.name != self._node
        ]

    def _apply(self) -> None:
        if self._draining:
            return  # serve what is held until it is handed over
        # This node always counts itself in: whether it can work shows when it takes the leases.
        working = frozenset({*self._others(), self._node})
        self._peers = sorted(working - {self._node})
        owners = self._owners_of(working, self._partitions)
        gone, gone_before = self._gone_now(), self._gone
        self._gone = gone
        if tuple(owners) == tuple(self._owners):
            if gone != gone_before:
                self._want()
            return
        mine = [partition for partition, owner in enumerate(owners) if owner == self._node]
        if self._owners:
            moved = sum(new != old for new, old in zip(owners, self._owners, strict=True))
            log.info("%d of %d partitions move; nodes: %d, here: %d", moved, self._partitions, len(working), len(mine))
        else:
            log.info("%d partitions; nodes: %d, here: %d", self._partitions, len(working), len(mine))
        self._owners, self._working = owners, working
        self._adopted.clear()
        self._unheld.clear()
        self._want()

    def _want(self) -> None:
        mine = {partition for partition, owner in enumerate(self._owners) if owner == self._node}
        self._keeper.want(mine | self._adopted.keys(), self._gone)

    async def _adopt(self) -> NoReturn:
        """Look for partitions that nobody holds, and take those for which this node is the next in line."""
        while True:
            await trio.sleep(self._timing.adopt_look_seconds)
            if len(self._working) < 2 or self._draining:
                continue
            try:
                owners = await self._store.owners(range(self._partitions))
                self._consider({owner.partition: owner.node for owner in owners if owner.remaining_ms > 0})
            except StoreError as error:
                log.debug("can't see who holds the partitions: %s", error)
            except Exception as error:
                note(Where.ADOPTION, "partitions that nobody serves", error)

    def _consider(self, held: Mapping[int, str]) -> None:
        now = trio.current_time()
        adopted = dict(self._adopted)
        for partition, owner in enumerate(self._owners):
            if partition in held:
                self._unheld.pop(partition, None)
            elif owner != self._node:
                looks = self._unheld[partition] = self._unheld.get(partition, 0) + 1
                line = [name for name in self._successors_of(self._working, partition) if name != owner]
                if looks >= self._timing.adopt_looks + line.index(self._node):  # one more look for each node before it
                    log.warning("partition %d is not served by %s: adopted", partition, owner)
                    adopted[partition] = now + self._timing.adopted_seconds
        adopted = {
            partition: until
            for partition, until in adopted.items()
            if until > now and held.get(partition, self._node) == self._node  # or another node was faster
        }
        if adopted.keys() != self._adopted.keys():
            self._adopted = adopted
            self._want()
