"""The members that each node believes in: views that are late, one-sided and sometimes wrong, as gossip gives them.

This replaces `orchy.swim` behind the port `orchy.cluster.cluster.Membership`. A node's view of another one follows the
truth with a delay; silence makes a member suspect and then dead, after times that each observer draws for itself. Half
of the members whose process has ended, and half of those that are wrongly declared dead, count as gone: there is
evidence, true or forged, and their partitions are taken from them at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from orchy.cluster.cluster import Member
from tests.simulation.world import World

#: How often each observer updates its view.
TICK_SECONDS = 0.7
DEAD_AFTER_SECONDS = (1.0, 8.0)
#: The capacity of a socket's buffer.
INBOX_MESSAGES_MAX = 100


@attrs.define
class _Truth:
    """The actual state of a node. `incarnation` counts its lives; a `frozen` node sends nothing."""

    membership: SimulatedMembership
    incarnation: int
    ready: bool = False
    frozen: bool = False
    left: bool = False
    ended: bool = False


class Gossip:
    """The network between the nodes, and their actual states."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.stream("gossip")
        self.cuts: set[tuple[str, str]] = set()  # (from, to): messages that do not arrive
        self.false_views: dict[tuple[str, str], str] = {}  # (observer, target): the state that the observer believes in
        self._truths: dict[str, _Truth] = {}
        self._lives: dict[str, int] = {}

    def join(self, name: str) -> SimulatedMembership:
        """Start a life of the node `name`."""
        self._lives[name] = self._lives.get(name, 0) + 1
        membership = SimulatedMembership(self, name, self._lives[name])
        self._truths[name] = _Truth(membership, self._lives[name])
        return membership

    def gone(self, name: str, *, left: bool) -> None:
        """The node's process has ended; `left` if it said goodbye."""
        self._truths[name].left = left
        self._truths[name].ended = not left
        self._truths[name].frozen = True

    def frozen(self, name: str, frozen: bool) -> None:
        """The node is frozen, or thawed."""
        self._truths[name].frozen = frozen

    def truths(self) -> dict[str, _Truth]:
        """All nodes that ever were, by name."""
        return self._truths

    def heard(self, target: str, observer: str) -> bool:
        """Whether messages from `target` reach `observer` now."""
        return not self._truths[target].frozen and (target, observer) not in self.cuts

    def datagram(self, sender: str, to: str, message: bytes) -> None:
        """Send a wake-up, which may be lost, delayed or duplicated."""
        profile, calm = self.world.profile, self.world.healed.is_set()
        if not calm and (self.rng.random() < profile.wakeups_lost or (sender, to) in self.cuts):
            self.world.count("wake-ups lost")
            return
        copies = 1
        if not calm and self.rng.random() < profile.wakeups_doubled:
            self.world.count("wake-ups doubled")
            copies = 2
        for _ in range(copies):
            self.world.later(self.rng.choice((0.0005, 0.01, 0.3)), self._deliver, to, message)

    async def _deliver(self, to: str, message: bytes) -> None:
        truth = self._truths.get(to)
        if truth is not None:
            truth.membership.receive(message)

    async def follow(self) -> None:
        """Update all views again and again, until cancelled."""
        while True:
            for truth in list(self._truths.values()):
                if not truth.frozen:
                    truth.membership.follow()
            await trio.sleep(TICK_SECONDS)


class SimulatedMembership:
    """The membership of one life of a node."""

    def __init__(self, gossip: Gossip, name: str, incarnation: int) -> None:
        self._gossip = gossip
        self._name = name
        self._view = {name: _member(name, "alive", incarnation, False)}
        self._silent_since: dict[str, float] = {}
        self._dead_after: dict[str, float] = {}
        self._change = trio.Event()
        self._to_inbox, self.inbox = trio.open_memory_channel[bytes](INBOX_MESSAGES_MAX)

    # The port.

    def members(self) -> Sequence[Member]:
        """The members, as this node sees them now."""
        return list(self._view.values())

    async def changed(self) -> None:
        """Wait for the next change of the view."""
        await self._change.wait()

    def announce_ready(self, ready: bool) -> None:
        """The others see it at their next tick."""
        truths = self._gossip.truths()
        if truths[self._name].membership is self:
            truths[self._name].ready = ready
            self._see(attrs.evolve(self._view[self._name], ready=ready))

    def send(self, node: str, message: bytes) -> None:
        """Send one datagram."""
        truth = self._gossip.truths()[self._name]
        if truth.membership is self and not truth.frozen:
            self._gossip.datagram(self._name, node, message)

    # The network's side.

    def receive(self, message: bytes) -> None:
        """Put a datagram into the inbox, which a task of the node reads."""
        try:
            self._to_inbox.send_nowait(message)
        except (trio.WouldBlock, trio.BrokenResourceError):
            self._gossip.world.count("wake-ups lost")

    def follow(self) -> None:
        """Update this node's view."""
        gossip, now = self._gossip, trio.current_time()
        for name, truth in gossip.truths().items():
            if name == self._name:
                continue
            state = gossip.false_views.get((self._name, name))
            if state is not None and name in self._view:
                self._see(attrs.evolve(self._view[name], state=state, gone=self._gone(name, state)))
            elif gossip.heard(name, self._name):
                self._silent_since.pop(name, None)
                self._see(_member(name, "alive", truth.incarnation, truth.ready))
            elif name in self._view:
                if name not in self._silent_since:
                    self._silent_since[name] = now
                    self._dead_after[name] = gossip.rng.uniform(*DEAD_AFTER_SECONDS)
                    if truth.ended and (name, self._name) not in gossip.cuts and gossip.rng.random() < 0.5:
                        self._dead_after[name] = 0.0
                silent = now - self._silent_since[name]
                state = "left" if truth.left else "suspect" if silent < self._dead_after[name] else "dead"
                gone = state == "dead" and self._dead_after[name] == 0.0
                self._see(attrs.evolve(self._view[name], state=state, gone=gone))

    def _gone(self, name: str, state: str) -> bool:
        """Whether a member that is wrongly declared dead counts as gone; drawn when it is declared dead."""
        before = self._view[name]
        if state != "dead" or before.state == "dead":
            return state == "dead" and before.gone
        return self._gossip.rng.random() < 0.5

    def _see(self, member: Member) -> None:
        before = self._view.get(member.name)
        if before != member:
            self._view[member.name] = member
            if before is None or before.state != member.state:
                self._gossip.world.note(f"{self._name} sees {member.name} {member.state}")
            self._change.set()
            self._change = trio.Event()


def _member(name: str, state: str, incarnation: int, ready: bool) -> Member:
    return Member(name, state, incarnation, f"{name}:1", f"{name}:2", f"{name}:3", ready)
