"""Members -> owners -> leases: which partitions this node is to hold, and how nodes wake each other.

Who is a member is told by a `Membership`; which of the ready ones owns which partition is the ring's to say,
the same on every node. A change counts after a debounce, so that a burst of joins moves partitions once. The
lease keeper then takes or gives up what changed.

A commit that puts work or an early timer into a partition of another node sends that node a wake-up, one
datagram that may be lost: the owner looks at least once a second anyway.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import NoReturn, Protocol

import attrs
import msgpack
import trio

from orchy.flow.definition import JSON
from orchy.partition.holdings import Holdings
from orchy.partition.leases import LeaseKeeper
from orchy.store.base import LeaseStore

DEBOUNCE_SECONDS = 1.0
#: How often this node asks itself whether it is ready, when no member changes.
LOOK_SECONDS = 2.0
#: A wake-up must fit into one datagram beside the gossip's own header.
WAKEUP_BYTES_MAX = 1_000

log = logging.getLogger(__name__)


@attrs.frozen
class Member:
    """A node as this node sees it. `state` is alive, suspect, dead or left; addresses are "host:port"."""

    name: str
    state: str
    incarnation: int
    gossip_address: str
    http_address: str
    grpc_address: str
    ready: bool
    round_trip_ms: float | None = None

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

    def say_ready(self, ready: bool) -> None:
        """Tell the others whether this node works."""
        ...

    def send(self, node: str, message: bytes) -> None:
        """One datagram to a member, best effort."""
        ...


class Alone:
    """The membership of a node that has no cluster."""

    def __init__(self, node: str, gossip_address: str, http_address: str, grpc_address: str) -> None:
        self._member = Member(node, "alive", 1, gossip_address, http_address, grpc_address, ready=False)
        self._change = trio.Event()

    def members(self) -> Sequence[Member]:
        """Just this node."""
        return [self._member]

    async def changed(self) -> None:
        """When it became ready or stopped to be."""
        await self._change.wait()

    def say_ready(self, ready: bool) -> None:
        """Keep it; nobody else has to be told."""
        if ready is not self._member.ready:
            self._member = attrs.evolve(self._member, ready=ready)
            self._change.set()
            self._change = trio.Event()

    def send(self, node: str, message: bytes) -> None:
        """There is nobody else."""
        raise AssertionError(f"a node on its own has nothing to say to {node}")


class Cluster:
    """This node's place among the others."""

    def __init__(
        self,
        *,
        node: str,
        partitions: int,
        membership: Membership,
        owners: Callable[[Collection[str], int], Sequence[str]],
        keeper: LeaseKeeper,
        holdings: Holdings,
        store: LeaseStore,
    ) -> None:
        self._node = node
        self._partitions = partitions
        self._membership = membership
        self._owners_of = owners
        self._keeper = keeper
        self._holdings = holdings
        self._store = store
        self._owners: Sequence[str] = ()
        self._draining = False
        self.on_enqueued: Callable[[int, Sequence[str]], None] = _nobody
        self.on_timer_set: Callable[[int, int], None] = _nobody

    # What others ask.

    @property
    def ready(self) -> bool:
        """Whether this node serves: the store answers, its partitions are taken, and it is not about to stop."""
        return not self._draining and self._keeper.in_touch and bool(self._owners) and self._keeper.complete

    def servers(self) -> list[tuple[str, str]]:
        """(name, gRPC address) of the live members."""
        return [(member.name, member.grpc_address) for member in self._membership.members() if member.live]

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

    def wake_up(self, message: bytes) -> None:
        """Take in another node's wake-up; what is not one is dropped."""
        try:
            partition, action_names, after_ms = msgpack.unpackb(message)
            if partition in self._holdings.leases:
                if action_names:
                    self.on_enqueued(partition, [str(name) for name in action_names])
                if after_ms is not None:
                    self.on_timer_set(partition, int(after_ms))
        except (ValueError, TypeError, msgpack.UnpackException):
            log.debug("dropped a wake-up that is none: %r", message[:100])

    def _tell_owner(self, partition: int, message: list[JSON]) -> None:
        if not self._owners or self._owners[partition] == self._node:
            return  # about to be taken: the first look finds it
        packed = msgpack.packb(message)
        if len(packed) <= WAKEUP_BYTES_MAX:
            self._membership.send(self._owners[partition], packed)

    # What it does.

    async def run(self) -> NoReturn:
        """Follow the members, and whether the store is in touch, until cancelled."""
        while True:
            self._membership.say_ready(self._keeper.in_touch and not self._draining)
            self._apply()
            with trio.move_on_after(LOOK_SECONDS):
                await self._membership.changed()
                await trio.sleep(DEBOUNCE_SECONDS)

    def leave(self) -> None:
        """Be ready for nothing more; partitions stay until the leases are released."""
        self._draining = True
        self._membership.say_ready(False)

    def _apply(self) -> None:
        working = {member.name for member in self._membership.members() if member.live and member.ready}
        if not self._draining:
            working.add(self._node)  # whether the store answers shows when the leases are taken
        owners = self._owners_of(working, self._partitions) if working else ()
        if tuple(owners) != tuple(self._owners):
            mine = [partition for partition, owner in enumerate(owners) if owner == self._node]
            log.info("owners of %d partitions: %d nodes, %d here", self._partitions, len(working), len(mine))
            self._owners = owners
            self._keeper.want(mine)


def _nobody(*_: object) -> None:
    """Nobody listens yet."""
