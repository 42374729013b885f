"""The gossip as Orchy uses it: members with addresses and readiness, one line in the log for whatever happens to one.

What a node says about itself is its metadata, a msgpack array: ready, gRPC address, HTTP address, instance. The gossip
says who is alive, the store who belongs: a process that is not in the store's list of nodes, with this instance and
these addresses, is not let in, whatever the packets say.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress

import attrs
import msgpack
import trio

from orchy.cluster.cluster import Member
from orchy.cluster.registry import Registry, is_instance_of
from orchy.errors import ConfigurationError, OrchyError, StartupError
from orchy.store.nodes import RegisteredNode
from orchy.swim.messages import Address, Join, Leave, Reconnect, Record, SetMeta, State, Tell, Vouch
from orchy.swim.notifications import (
    AliveAgain,
    Changed,
    Died,
    Event,
    Implausible,
    Joined,
    JoinRefused,
    JoinUnanswered,
    Left,
    NameClaimed,
    NameTaken,
    Stranger,
    Suspected,
    Told,
    Witnessed,
)
from orchy.swim.udp import Driver

#: How long the start waits for the first answer to a join: one that refuses it is better heard before the doors open.
FIRST_JOIN_SECONDS = 1.0
FIRST_JOIN_LOOK_SECONDS = 0.02
#: How long a goodbye may take to be told.
FAREWELL_SECONDS = 2.0
FAREWELL_LOOK_SECONDS = 0.05
#: What packets of others can bring about again and again is logged at most so often.
LOG_AGAIN_SECONDS = 60.0

_PLAIN = re.compile(r"[!-~]{0,300}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

log = logging.getLogger(__name__)


@attrs.frozen
class Profile:
    """What a node says about itself. `instance` is what the process is known by in the store, see `registry`."""

    ready: bool = False
    grpc_address: str = ""
    http_address: str = ""
    instance: str = ""

    def pack(self) -> bytes:
        """As metadata."""
        packed: bytes = msgpack.packb([self.ready, self.grpc_address, self.http_address, self.instance])
        return packed


def unpack_profile(meta: bytes) -> Profile:
    """What a member says about itself; nothing, if it says it in a way that this version does not know."""
    try:
        ready, *texts = msgpack.unpackb(meta, max_map_len=0, max_ext_len=0)[:4]
    except (ValueError, TypeError, msgpack.UnpackException):
        return Profile()
    if type(ready) is not bool or len(texts) != 3:
        return Profile()
    if any(type(text) is not str or _PLAIN.fullmatch(text) is None for text in texts):
        return Profile()
    return Profile(ready, *texts)


def cluster_label(namespace: str, partitions: int, format_version: int, identity: str) -> str:
    """What tells this cluster from others: its packets mean nothing to a node that has another one.

    With an empty `identity`, the store's, it is what those say who have no store yet, and what may be told to anybody.
    """
    return f"{namespace}/{partitions}/{format_version}/{identity}"


def refusal(address: str, mine: str, theirs: str, opened: bool) -> OrchyError:
    """Why a cluster does not take this node, by the labels of both. `opened`: its answer was sealed as ours are."""
    ours, parts = mine.split("/"), theirs.split("/")
    if len(parts) != 4 or not _NAME.fullmatch(parts[0]) or not (parts[1] + parts[2]).isdecimal():
        return StartupError(f"at {address} there is something else than a node of Orchy")
    if ours[0] != parts[0]:
        return ConfigurationError(
            f"the cluster at {address} serves the namespace {parts[0]!r}, this node {ours[0]!r}: give"
            f" --namespace {parts[0]}, or another --cluster-address"
        )
    if ours[1] != parts[1]:
        return ConfigurationError(
            f"the cluster at {address} has {parts[1]} partitions, this node was told {ours[1]}: give"
            f" --partitions {parts[1]}, or another --namespace"
        )
    if ours[2] != parts[2]:
        return StartupError(f"the cluster at {address} keeps format {parts[2]}, this version of Orchy {ours[2]}")
    if not opened:
        return StartupError(f"the cluster at {address} does not take this node's packets: is --gossip-key the same?")
    return StartupError(
        f"the cluster at {address} has another store than this node, perhaps one of which this node's is a copy: give"
        " the cluster's with --redis-addr, or another --cluster-address"
    )


class GossipMembership:
    """A `Membership` on a gossip driver. Make it first, then give `on_event` to the driver, then `attach` that."""

    def __init__(self, node: str, label: str, registry: Registry, profile: Profile) -> None:
        self._node = node
        self._label = label
        self._registry = registry
        self._profile = profile
        self._logged_at: dict[str, float] = {}
        self._names: frozenset[str] = frozenset()
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

    def vouched(self, record: Record) -> bool:
        """Whether the process that this record is about has been in the store's list of nodes, as it says it is."""
        if not self._registry.knows(record.name):
            return False
        profile = unpack_profile(record.meta)
        return self._is_itself(record, profile) and self._registry.vouches(
            record.name, profile.instance, _shown(record.address)
        )

    def join(self, seeds: Sequence[Address]) -> None:
        """Become a member of the cluster that one of these belongs to; none: be a cluster. Both with those that the
        store knows.
        """
        self._gossip.feed(Join(tuple(seeds)))
        self._registry.on_read = self.on_registry
        self.on_registry(self._registry.others)

    def on_registry(self, nodes: Sequence[RegisteredNode]) -> None:
        """The store's list of other nodes, read again: strangers may be let in, members may have lost their place."""
        self._gossip.feed(Vouch())
        self.reconnect([address for node in nodes if (address := parse_shown(node.address)) is not None])
        names = frozenset(member.name for member in self.members() if member.registered)
        if names != self._names:
            self._names = names
            self._changed()

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

    def announce_ready(self, ready: bool) -> None:
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

    def reconnect(self, addresses: Sequence[Address]) -> None:
        """Members may be found there."""
        self._gossip.feed(Reconnect(tuple(addresses)))

    async def announced(self) -> None:
        """Returns when this node is of a cluster, its own or another; or after a second: it goes on trying."""
        with trio.move_on_after(FIRST_JOIN_SECONDS):
            while self._gossip.machine.get(self._node) is None:
                await trio.sleep(FIRST_JOIN_LOOK_SECONDS)

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
                self._look_up(member)
            case Changed(member):
                log.debug("%s says: %s", member.name, unpack_profile(member.meta))
                self._look_up(member)
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
            case Stranger(member):
                self._registry.read_soon()
                log.debug("%s at %s is not registered in the store", member.name, _shown(member.address))
                return None
            case JoinRefused(address, label, opened):
                self._refused(refusal(_shown(address), self._label, label, opened))
                return None
            case JoinUnanswered(address):
                return self._log_seldom(
                    "unanswered",
                    f"the node at {_shown(address)} does not take this node's packets: it has another --gossip-key,"
                    " --namespace, --partitions or store, or is busy; trying again",
                )
            case NameClaimed(address):
                return self._log_seldom(
                    "claimed",
                    f"somebody at {_shown(address)} is said to have this node's name; the store says that it is"
                    " this node's",
                )
            case Implausible(name, incarnation):
                return self._log_seldom(
                    "implausible",
                    f"dropped: incarnation {incarnation} of {name}: are the clocks of all hosts right?",
                )
            case NameTaken():
                raise AssertionError("this node holds its name in the store, and does not yield")
        return self._changed()

    def _look_up(self, record: Record) -> None:
        """A member whose registration is over, as it could not renew it for a while, may be back."""
        if not self._member(record).registered:
            self._registry.read_soon()

    def _refused(self, error: OrchyError) -> None:
        """A node of which the operator said that it is of this cluster says it is not.

        Who is a cluster already, with itself as its first node, goes on being one.
        """
        if self._gossip.machine.get(self._node) is None:
            self._fail_with(error)
        else:
            self._log_seldom("refused", str(error))

    def _log_seldom(self, kind: str, message: str) -> None:
        now = trio.current_time()
        if now - self._logged_at.get(kind, -LOG_AGAIN_SECONDS) >= LOG_AGAIN_SECONDS:
            self._logged_at[kind] = now
            log.warning("%s", message)

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

    @property
    def _gossip(self) -> Driver:
        assert self._driver is not None, "attach() comes first"
        return self._driver

    def _is_itself(self, record: Record, profile: Profile) -> bool:
        """Whether the addresses are those for which the instance was made."""
        return is_instance_of(profile.instance, _shown(record.address), profile.grpc_address, profile.http_address)

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
            registered=self._is_itself(record, profile)
            and self._registry.registered(record.name, profile.instance, _shown(record.address)),
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
        (
            "orchy_gossip_strangers",
            "Times that a member was named that the store does not know",
            lambda: said["strangers"],
        ),
        ("orchy_gossip_errors", "Errors that nobody foresaw", lambda: counts["errors"]),
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
