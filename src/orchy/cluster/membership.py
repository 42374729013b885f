"""The gossip as Orchy uses it: members with their addresses and readiness, and a log line for each change of one.

A node describes itself in its metadata, a msgpack array: ready, gRPC address, HTTP address, instance. The gossip says
who is alive, the store says who belongs: a process that is not in the store's list of nodes, with this instance and
these addresses, is not admitted, whatever the packets say.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import assert_never

import attrs
import msgpack
import trio

from orchy.addresses import HostPort, parse_host_port
from orchy.cluster.cluster import Member
from orchy.cluster.registry import Registry, is_instance_of
from orchy.cluster.timing import MEMBERSHIP_TIMING, MembershipTiming
from orchy.errors import ConfigurationError, OrchyError, StartupError
from orchy.runtime.callbacks import ignore
from orchy.store.nodes import RegisteredNode
from orchy.swim.messages import Address, Join, Leave, Reconnect, Record, SendUser, SetMeta, State, Vouch
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
    Suspected,
    Unvouched,
    UserMessage,
    Witnessed,
)
from orchy.swim.udp import Driver
from orchy.telemetry.throttle import ThrottledWarnings

_PLAIN = re.compile(r"[!-~]{0,300}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

log = logging.getLogger(__name__)


@attrs.frozen
class Profile:
    """What a node says about itself. `instance` identifies its process in the store, see `registry`."""

    ready: bool = False
    grpc_address: str = ""
    http_address: str = ""
    instance: str = ""

    def pack(self) -> bytes:
        """As metadata."""
        packed: bytes = msgpack.packb([self.ready, self.grpc_address, self.http_address, self.instance])
        return packed


def unpack_profile(meta: bytes) -> Profile:
    """What a member says about itself; an empty profile if this version can't read it."""
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
    """Identifies this cluster: nodes drop packets with another label.

    `identity` is the store's. Nodes that have no store yet use a label with an empty one, which is no secret.
    """
    return f"{namespace}/{partitions}/{format_version}/{identity}"


def refusal(address: str, mine: str, theirs: str, opened: bool) -> OrchyError:
    """Why a cluster refuses this node, by the labels of both. `opened`: its answer was sealed with our key, if any."""
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
    """A `Membership` on a gossip driver. Create it, then a driver with its `on_event`, then `attach` the driver."""

    def __init__(
        self,
        node: str,
        label: str,
        registry: Registry,
        profile: Profile,
        timing: MembershipTiming = MEMBERSHIP_TIMING,
    ) -> None:
        self._node = node
        self._label = label
        self._registry = registry
        self._profile = profile
        self._timing = timing
        self._warnings = ThrottledWarnings(log)  # of what packets can cause again and again
        self._names: frozenset[str] = frozenset()
        self._driver: Driver | None = None
        self._gone: dict[str, int] = {}  # name -> the incarnation whose end was witnessed
        self._change = trio.Event()
        self._failure: OrchyError | None = None
        self._failed = trio.Event()
        #: Called with each message of another node.
        self.on_message: Callable[[bytes], None] = ignore

    def attach(self, driver: Driver) -> None:
        """Use this driver."""
        self._driver = driver

    def vouched(self, record: Record) -> bool:
        """Whether the process of this record has been in the store's list of nodes, with just these addresses."""
        if not self._registry.knows(record.name):
            return False
        profile = unpack_profile(record.meta)
        return self._is_itself(record, profile) and self._registry.vouches(
            record.name, profile.instance, format_address(record.address)
        )

    def join(self, seeds: Sequence[Address]) -> None:
        """Join the cluster of one of these seeds, or of a node in the store's list; without seeds, be a cluster."""
        self._gossip.feed(Join(tuple(seeds)))
        self._registry.on_read = self.on_registry
        self.on_registry(self._registry.others)

    def on_registry(self, nodes: Sequence[RegisteredNode]) -> None:
        """The store's list of other nodes was read: strangers may be admitted, members may no longer be registered."""
        self._gossip.feed(Vouch())
        self.reconnect([address for node in nodes if (address := parse_address(node.address)) is not None])
        names = frozenset(member.name for member in self.members() if member.registered)
        if names != self._names:
            self._names = names
            self._changed()

    # The port.

    def members(self) -> Sequence[Member]:
        machine = self._gossip.machine
        records = {record.name: record for record in machine.members}
        records[self._node] = machine.me
        return [self._member(records[name]) for name in sorted(records)]

    async def changed(self) -> None:
        await self._change.wait()

    def announce_ready(self, ready: bool) -> None:
        self.describe(attrs.evolve(self._profile, ready=ready))

    def send(self, node: str, message: bytes) -> None:
        self._gossip.feed(SendUser(node, message))

    # Beyond the port.

    @property
    def profile(self) -> Profile:
        """What this node says about itself."""
        return self._profile

    def describe(self, profile: Profile) -> None:
        """Change what this node says about itself."""
        if profile != self._profile:
            self._profile = profile
            self._gossip.feed(SetMeta(profile.pack()))
            self._changed()

    def reconnect(self, addresses: Sequence[Address]) -> None:
        """Look for members at these addresses."""
        self._gossip.feed(Reconnect(tuple(addresses)))

    async def announced(self) -> None:
        """Returns when this node is a member of a cluster, or after a second: joining goes on in the background."""
        with trio.move_on_after(self._timing.first_join_seconds):
            while self._gossip.machine.get(self._node) is None:
                await trio.sleep(self._timing.first_join_check_seconds)

    async def leave(self) -> None:
        """Say goodbye; returns when enough members have heard it, after two seconds at most."""
        self._gossip.feed(Leave())
        with trio.move_on_after(self._timing.farewell_seconds):
            while not self._gossip.machine.leave_announced:
                await trio.sleep(self._timing.farewell_check_seconds)

    async def fail(self) -> None:
        """Wait until this node can't be a member, and raise why: ConfigurationError or StartupError."""
        await self._failed.wait()
        assert self._failure is not None
        raise self._failure

    # Events.

    def on_event(self, event: Event) -> None:
        """The driver calls this for each event of the gossip."""
        match event:
            case Joined(member):
                log.info("%s joined, at %s", member.name, format_address(member.address))
                self._look_up(member)
                self._changed()
            case Changed(member):
                log.debug("%s says: %s", member.name, unpack_profile(member.meta))
                self._look_up(member)
                self._changed()
            case Died(member, source, witnessed):
                log.warning("%s is dead, says %s", member.name, source)
                if witnessed:
                    self._note_gone(member)
                self._changed()
            case Witnessed(member):
                self._note_gone(member)
                self._changed()
            case Left(member):
                log.info("%s left", member.name)
                self._changed()
            case Suspected(member, source):
                log.warning("%s is suspected: it did not answer %s", member.name, source)
            case AliveAgain(member):
                log.info("%s lives: it objected to the suspicion", member.name)
            case UserMessage(_, payload):
                self.on_message(payload)
            case Unvouched(member):
                self._registry.read_soon()
                log.debug("%s at %s is not registered in the store", member.name, format_address(member.address))
            case JoinRefused(address, label, opened):
                self._refused(refusal(format_address(address), self._label, label, opened))
            case JoinUnanswered(address):
                self._warnings.warn(
                    "unanswered",
                    "the node at %s does not take this node's packets: it has another --gossip-key, --namespace,"
                    " --partitions or store, or is busy; trying again",
                    format_address(address),
                )
            case NameClaimed(address):
                self._warnings.warn(
                    "claimed",
                    "somebody at %s is said to have this node's name; the store says that it is this node's",
                    format_address(address),
                )
            case Implausible(name, incarnation):
                self._warnings.warn(
                    "implausible",
                    "dropped: incarnation %s of %s: are the clocks of all hosts right?",
                    incarnation,
                    name,
                )
            case NameTaken():
                raise AssertionError("this node holds its name in the store, and does not yield")
            case _:
                assert_never(event)

    def _look_up(self, record: Record) -> None:
        """Read the store's list soon if this member is not in it: it may have registered again."""
        if not self._member(record).registered:
            self._registry.read_soon()

    def _refused(self, error: OrchyError) -> None:
        """One of the operator's seeds belongs to another cluster.

        That is fatal, unless this node is a member already, perhaps as the first one of its cluster.
        """
        if self._gossip.machine.get(self._node) is None:
            self._fail_with(error)
        else:
            self._warnings.warn("refused", "%s", error)

    def _note_gone(self, member: Record) -> None:
        log.warning(
            "%s: its host says that nothing listens at %s any more", member.name, format_address(member.address)
        )
        self._gone[member.name] = member.incarnation
        for name in [name for name in self._gone if not self._is_gone(name)]:
            del self._gone[name]

    def _is_gone(self, name: str) -> bool:
        """Whether the end of this member was witnessed, and it has not been back since."""
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
        """Whether the instance was made for these addresses."""
        return is_instance_of(
            profile.instance, format_address(record.address), profile.grpc_address, profile.http_address
        )

    def _member(self, record: Record) -> Member:
        profile = self._profile if record.name == self._node else unpack_profile(record.meta)
        round_trip = self._gossip.machine.round_trip_seconds(record.name)
        return Member(
            name=record.name,
            state=State(record.state).name.lower(),
            incarnation=record.incarnation,
            gossip_address=format_address(record.address),
            http_address=profile.http_address,
            grpc_address=profile.grpc_address,
            ready=profile.ready and record.state.live,
            round_trip_ms=None if round_trip is None else round(round_trip * 1000, 3),
            registered=self._is_itself(record, profile)
            and self._registry.registered(record.name, profile.instance, format_address(record.address)),
            gone=self._is_gone(record.name),
        )


def format_address(address: Address) -> str:
    """As "host:port", an IPv6 address in brackets."""
    return str(HostPort(*address))


def parse_address(text: str) -> Address | None:
    """The inverse of `format_address`; None: `text` is no address."""
    with suppress(ValueError):
        parsed = parse_host_port(text)
        return parsed.host, parsed.port
    return None
