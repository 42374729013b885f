"""The gossip as Orchy uses it: members with addresses and readiness, one line in the log for whatever happens to one.

What a node says about itself is its metadata, a msgpack array: ready, gRPC address, HTTP address, store. A node that
joins and was told of no store takes the one that the others name: their Redis, or the embedded store of a node on the
same host.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

import attrs
import msgpack
import trio

from orchy.cluster import Member
from orchy.errors import ConfigurationError, OrchyError, StartupError
from orchy.swim.messages import (
    Address,
    AliveAgain,
    Changed,
    Died,
    Event,
    Join,
    Joined,
    JoinRefused,
    Leave,
    Left,
    NameTaken,
    Reconnect,
    Record,
    SetMeta,
    State,
    Suspected,
    Tell,
    Told,
    Witnessed,
)
from orchy.swim.udp import Driver

#: How long a goodbye may take to be told.
FAREWELL_SECONDS = 2.0
FAREWELL_LOOK_SECONDS = 0.05

log = logging.getLogger(__name__)


@attrs.frozen
class Profile:
    """What a node says about itself. `store` is "redis:HOST:PORT,..." or "unix:PATH", empty before it has one."""

    ready: bool = False
    grpc_address: str = ""
    http_address: str = ""
    store: str = ""

    def pack(self) -> bytes:
        """As metadata."""
        packed: bytes = msgpack.packb([self.ready, self.grpc_address, self.http_address, self.store])
        return packed


def unpack_profile(meta: bytes) -> Profile:
    """What a member says about itself; nothing, if it says it in a way that this version does not know."""
    try:
        ready, grpc_address, http_address, store, *_ = msgpack.unpackb(meta)
    except (ValueError, TypeError, msgpack.UnpackException):
        return Profile()
    return Profile(bool(ready), str(grpc_address), str(http_address), str(store))


def cluster_label(namespace: str, partitions: int, format_version: int) -> str:
    """What tells this cluster from others: its packets mean nothing to a node that has another one."""
    return f"{namespace}/{partitions}/{format_version}"


class GossipMembership:
    """A `Membership` on a gossip driver. Make it first, then give `on_event` to the driver, then `attach` that."""

    def __init__(self, node: str, label: str) -> None:
        self._node = node
        self._label = label
        self._profile = Profile()
        self._driver: Driver | None = None
        self._gone: dict[str, int] = {}  # name -> the incarnation whose end was witnessed
        self._change = trio.Event()
        self._failure: OrchyError | None = None
        self._failed = trio.Event()
        #: Called with each message of another node.
        self.on_message: Callable[[bytes], None] = lambda message: None

    def attach(self, driver: Driver) -> None:
        """Speak through this one."""
        self._driver = driver

    # The port.

    def members(self) -> Sequence[Member]:
        """All known members, by name, this node among them."""
        machine = self._gossip.machine
        records = {record.name: record for record in machine.members}
        records[self._node] = machine.me
        return [self._member(records[name]) for name in sorted(records)]

    async def changed(self) -> None:
        """When a member came, went or says something else of itself."""
        await self._change.wait()

    def say_ready(self, ready: bool) -> None:
        """Tell the others whether this node works."""
        self.describe(attrs.evolve(self._profile, ready=ready))

    def send(self, node: str, message: bytes) -> None:
        """One datagram, best effort."""
        self._gossip.feed(Tell(node, message))

    # More than the port.

    @property
    def profile(self) -> Profile:
        """What this node says about itself."""
        return self._profile

    def describe(self, profile: Profile) -> None:
        """Say this about this node from now on."""
        if profile != self._profile:
            self._profile = profile
            self._gossip.feed(SetMeta(profile.pack()))
            self._changed()

    def join(self, seeds: Sequence[Address]) -> None:
        """Become a member of the cluster that one of these belongs to; none: be a cluster."""
        self._gossip.feed(Join(tuple(seeds)))

    def reconnect(self, addresses: Sequence[Address]) -> None:
        """Members may be found there."""
        self._gossip.feed(Reconnect(tuple(addresses)))

    @property
    def joined(self) -> bool:
        """Whether it has joined what it was told to."""
        return self._gossip.machine.joined

    def stores(self) -> list[tuple[str, str]]:
        """(node, store) of the other live members that name one."""
        return [
            (record.name, profile.store)
            for record in self._gossip.machine.members
            if record.name != self._node and record.state.live and (profile := unpack_profile(record.meta)).store
        ]

    async def leave(self) -> None:
        """Say goodbye; returns when enough have heard it, or after two seconds."""
        self._gossip.feed(Leave())
        with trio.move_on_after(FAREWELL_SECONDS):
            while not self._gossip.machine.farewell_told:
                await trio.sleep(FAREWELL_LOOK_SECONDS)

    async def fail(self) -> None:
        """Raise what makes it impossible to be a member, when it happens. ConfigurationError or StartupError."""
        await self._failed.wait()
        assert self._failure is not None
        raise self._failure

    # Events.

    def on_event(self, event: Event) -> None:
        """What the driver calls."""
        match event:
            case Joined(member):
                log.info("%s joined, at %s", member.name, _shown(member.address))
            case Changed(member):
                log.debug("%s says: %s", member.name, unpack_profile(member.meta))
            case Suspected(member, source):
                log.warning("%s is suspected: it did not answer %s", member.name, source)
                return self._note()
            case AliveAgain(member):
                log.info("%s lives: it objected to the suspicion", member.name)
                return self._note()
            case Died(member, source, witnessed):
                log.warning("%s is dead, says %s", member.name, source)
                if witnessed:
                    self._is_gone(member)
            case Witnessed(member):
                self._is_gone(member)
            case Left(member):
                log.info("%s left", member.name)
            case Told(_, payload):
                self.on_message(payload)
                return None
            case NameTaken(address):
                self._fail_with(
                    StartupError(
                        f"there is a live node named {self._node} already, at {_shown(address)}: give this one another"
                        " --node-name"
                    )
                )
            case JoinRefused(address, label):
                self._fail_with(self._refusal(_shown(address), label))
        return self._changed()

    def _note(self) -> None:
        """Seen by who asks, but nothing follows from it."""

    def _is_gone(self, member: Record) -> None:
        log.warning("%s: its host says that nothing listens at %s any more", member.name, _shown(member.address))
        self._gone[member.name] = member.incarnation
        for name in [name for name in self._gone if not self._ended(name)]:
            del self._gone[name]

    def _ended(self, name: str) -> bool:
        """Whether what is dead now is what was seen to have ended."""
        known = self._gossip.machine.get(name)
        return known is not None and known.state is State.DEAD and known.incarnation == self._gone.get(name)

    def _changed(self) -> None:
        self._change.set()
        self._change = trio.Event()

    def _fail_with(self, error: OrchyError) -> None:
        self._failure = self._failure or error
        self._failed.set()

    def _refusal(self, address: str, label: str) -> OrchyError:
        mine, theirs = self._label.rsplit("/", 2), label.rsplit("/", 2)
        if label == self._label:
            return StartupError(
                f"the cluster at {address} does not take this node's packets: is --gossip-key the same?"
            )
        if len(theirs) != 3:
            return StartupError(f"at {address} there is something else than a node of Orchy")
        if mine[0] != theirs[0]:
            return ConfigurationError(
                f"the cluster at {address} serves the namespace {theirs[0]!r}, this node {mine[0]!r}: give"
                f" --namespace {theirs[0]}, or another --cluster-address"
            )
        if mine[1] != theirs[1]:
            return ConfigurationError(
                f"the cluster at {address} has {theirs[1]} partitions, this node was told {mine[1]}: give"
                f" --partitions {theirs[1]}, or another --namespace"
            )
        return StartupError(f"the cluster at {address} keeps format {theirs[2]}, this version of Orchy {mine[2]}")

    @property
    def _gossip(self) -> Driver:
        assert self._driver is not None, "attach() comes first"
        return self._driver

    def _member(self, record: Record) -> Member:
        profile = self._profile if record.name == self._node else unpack_profile(record.meta)
        round_trip = self._gossip.machine.round_trip_seconds(record.name)
        return Member(
            name=record.name,
            state=State(record.state).name.lower(),
            incarnation=record.incarnation,
            gossip_address=_shown(record.address),
            http_address=profile.http_address,
            grpc_address=profile.grpc_address,
            ready=profile.ready and record.state.live,
            round_trip_ms=None if round_trip is None else round(round_trip * 1000, 3),
            gone=self._ended(record.name),
        )


def gossip_counts(driver: Driver) -> list[tuple[str, str, Callable[[], float]]]:
    """(name, help, value) of what the gossip counts, for the metrics."""
    counts, said = driver.counts, driver.machine.counts

    def dropped() -> float:
        return sum(count for reason, count in said.items() if reason.startswith("dropped"))

    return [
        ("orchy_gossip_datagrams_sent", "Datagrams of the gossip", lambda: counts["datagrams sent"]),
        ("orchy_gossip_datagrams_received", "Datagrams that came", lambda: counts["datagrams received"]),
        ("orchy_gossip_dropped", "Packets and frames that meant nothing here", dropped),
        ("orchy_gossip_failed_probes", "Members that did not answer this node", lambda: said["failed probes"]),
        ("orchy_gossip_refutations", "Suspicions of this node to which it objected", lambda: said["refuted"]),
    ]


def _shown(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_shown(text: str) -> Address | None:
    """The address that was shown so; None: it is none."""
    host, _, port = text.rpartition(":")
    with suppress(ValueError):
        return host.removeprefix("[").removesuffix("]"), int(port)
    return None
