"""Members -> owners -> leases: which partitions this node is to hold, and how nodes wake each other.

Who is a member is told by a `Membership`; which of the ready ones owns which partition is the ring's to say,
the same on every node. A change counts after a debounce, so that a burst of joins moves partitions once. The
lease keeper then takes or gives up what changed. Only a node that is known to be gone is not waited for: neither for
others that might follow it, nor for its leases to run out.

A partition whose owner is there but does not take its lease is adopted by the next in line, for a while. A node
that stops says so first: the others take over while it still serves, and are told when a lease is free.

A commit that puts work or an early timer into a partition of another node sends that node a wake-up, one
datagram that may be lost: the owner looks at least once a second anyway.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NoReturn, Protocol

import attrs
import msgpack
import trio

from orchy.errors import StoreError
from orchy.flow.definition import JSON
from orchy.partition.holdings import Holdings
from orchy.partition.leases import LeaseKeeper
from orchy.store.leases import LeaseStore
from orchy.telemetry.unexpected import Where, note, survive

DEBOUNCE_SECONDS = 1.0
#: How often this node asks itself whether it is ready, when no member changes.
LOOK_SECONDS = 2.0
#: How often this node looks for leases that nobody renews. The first in line adopts what two looks found so.
ADOPT_LOOK_SECONDS = 5.0
ADOPT_LOOKS = 2
#: How long it keeps what it adopted before it gives the owner another chance.
ADOPTED_SECONDS = 30.0
#: After a goodbye, how long until the others, with their debounce, want the partitions.
HANDOVER_SECONDS = DEBOUNCE_SECONDS + 0.3
#: How long the leases of a node that stops may take to be given up.
RELEASED_SECONDS = 2.0
#: What `offers` sends has so many fields.
OFFER_FIELDS = 4
#: A wake-up must fit into one datagram beside the gossip's own header.
WAKEUP_BYTES_MAX = 1_000
#: No timer is further away, about 300,000 years.
AFTER_MS_MAX = 10**16

log = logging.getLogger(__name__)


@attrs.frozen
class Member:
    """A node as this node sees it. `state` is alive, suspect, dead or left; addresses are "host:port".

    `gone`: it is dead, and its host says that there is no such process.
    """

    name: str
    state: str
    incarnation: int
    gossip_address: str
    http_address: str
    grpc_address: str
    ready: bool
    round_trip_ms: float | None = None
    #: Whether the store says that it belongs. Who does not is shown, and nothing else.
    registered: bool = True
    gone: bool = False

    @property
    def live(self) -> bool:
        """Whether it may be working: a suspicion changes nothing yet."""
        return self.state in ("alive", "suspect")


class Membership(Protocol):
    """Who is there."""

    def members(self) -> Sequence[Member]:
        """All known members, this node among them."""
        ...

    async def changed(self) -> None:
        """Returns when the members are not what they were at the call."""
        ...

    def announce_ready(self, ready: bool) -> None:
        """Tell the others whether this node works."""
        ...

    def send(self, node: str, message: bytes) -> None:
        """One datagram to a member, best effort."""
        ...


class Cluster:
    """This node's place among the others."""

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
    ) -> None:
        self._node = node
        self._partitions = partitions
        self._membership = membership
        self._owners_of = owners
        self._successors_of = successors
        self._keeper = keeper
        self._holdings = holdings
        self._store = store
        self._owners: Sequence[str] = ()
        self._working: frozenset[str] = frozenset()
        self._gone: frozenset[str] = frozenset()
        self._peers: Sequence[str] = ()
        self._unheld: dict[int, int] = {}  # partition -> how many looks found that nobody holds it
        self._adopted: dict[int, float] = {}  # partition -> until when
        self._served = False
        self._draining = False
        #: Messages of other nodes that were no wake-ups.
        self.wakeups_dropped = 0
        self.on_enqueued: Callable[[int, Sequence[str]], None] = _nobody
        self.on_timer_set: Callable[[int, int], None] = _nobody
        self.on_offer: Callable[[object, object, object, object], bool] = lambda *_: False

    # What others ask.

    @property
    def ready(self) -> bool:
        """Whether this node serves: the store answers, its first partitions are taken, it is not about to stop."""
        self._served = self._served or (bool(self._owners) and self._keeper.complete)
        return self._served and self._keeper.in_touch and not self._draining

    def servers(self) -> list[tuple[str, str]]:
        """(name, gRPC address) of the live members that work, or of all live ones if none says that it does.

        Only of those that the store knows.
        """
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
        """There is work in a partition: tell whoever hands it out."""
        if partition in self._holdings.leases:
            self.on_enqueued(partition, action_names)
        else:
            self._tell_owner(partition, [partition, list(action_names), None])

    def timer_set(self, partition: int, after_ms: int) -> None:
        """A timer was set in a partition: tell whoever fires it."""
        if partition in self._holdings.leases:
            self.on_timer_set(partition, after_ms)
        else:
            self._tell_owner(partition, [partition, [], after_ms])

    def receive(self, message: bytes) -> None:
        """Take in another node's wake-up; what is not one is dropped."""
        fields = _read_fields(message)
        wakeup = _as_wakeup(fields)
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
        elif partition == _ANY and not self._keeper.complete:
            self._keeper.ask_again()

    # Offers of work; see `offers`.

    def peers(self) -> Sequence[str]:
        """The other nodes that work, in the same order each time."""
        return self._peers

    def owner_of(self, partition: int) -> str | None:
        """Who should hold a partition; None if nobody is known, or there is no such partition."""
        return self._owners[partition] if 0 <= partition < len(self._owners) else None

    def send_offer(self, node: str, kind: str, action_name: str, partitions: Sequence[int]) -> None:
        """Send an offer, or an answer to one."""
        packed = msgpack.packb([kind, self._node, action_name, list(partitions)])
        if node != self._node and len(packed) <= WAKEUP_BYTES_MAX:
            self._membership.send(node, packed)

    def _tell_owner(self, partition: int, message: list[JSON]) -> None:
        if not self._owners or self._owners[partition] == self._node:
            return  # about to be taken: the first look finds it
        packed = msgpack.packb(message)
        if len(packed) <= WAKEUP_BYTES_MAX:
            self._membership.send(self._owners[partition], packed)

    # What it does.

    async def run(self) -> NoReturn:
        """Follow the members, the store and the leases, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._adopt)
            while True:
                with survive(Where.MEMBERS, "who owns which partition"):
                    self._membership.announce_ready(self._keeper.in_touch and not self._draining)
                    self._apply()
                with trio.move_on_after(LOOK_SECONDS):
                    await self._membership.changed()
                    await self._settle()

    async def hand_over(self) -> None:
        """Be ready for nothing more, give the partitions to the others; returns when that is done, or can't be."""
        self._draining = True
        self._membership.announce_ready(False)
        others = self._others()
        if others:
            log.info("handing %d partitions over to %d other nodes", len(self._holdings.leases), len(others))
            await trio.sleep(HANDOVER_SECONDS)
            self._keeper.want(())
            with trio.move_on_after(RELEASED_SECONDS):
                await self._keeper.released()
            free = msgpack.packb([_ANY, [], None])
            for name in others:
                self._membership.send(name, free)

    async def _settle(self) -> None:
        """Let a burst of changes pass. A node that is gone, or that was and has come back, ends it."""
        with trio.move_on_after(DEBOUNCE_SECONDS):
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
            return  # what is held is served until it is handed over
        # This node counts itself in: whether the store answers shows when the leases are taken.
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
        """Look for leases that nobody renews, and take those for which this node is the next in line."""
        while True:
            await trio.sleep(ADOPT_LOOK_SECONDS)
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
                if looks >= ADOPT_LOOKS + line.index(self._node):  # each in line leaves one look to the one before
                    log.warning("partition %d is not served by %s: adopted", partition, owner)
                    adopted[partition] = now + ADOPTED_SECONDS
        adopted = {
            partition: until
            for partition, until in adopted.items()
            if until > now and held.get(partition, self._node) == self._node  # else somebody was faster
        }
        if adopted.keys() != self._adopted.keys():
            self._adopted = adopted
            self._want()


#: In a wake-up instead of a partition: leases were given up.
_ANY = -1


def _read_fields(message: bytes) -> list[object]:
    """The fields of a message of another node; none: it is no such message."""
    try:
        fields = msgpack.unpackb(message, max_map_len=0, max_ext_len=0)
    except (ValueError, TypeError, msgpack.UnpackException):
        return []
    return fields if type(fields) is list else []


def _as_wakeup(fields: list[object]) -> tuple[int, list[str], int | None] | None:
    """(partition, names, after_ms), each of the right type; None: it is no wake-up."""
    if len(fields) != 3:
        return None
    partition, names, after_ms = fields
    if type(partition) is not int or type(names) is not list or any(type(name) is not str for name in names):
        return None
    if after_ms is not None and (type(after_ms) is not int or not -AFTER_MS_MAX <= after_ms <= AFTER_MS_MAX):
        return None
    return partition, names, after_ms


def _nobody(*_: object) -> None:
    """Nobody listens yet."""
