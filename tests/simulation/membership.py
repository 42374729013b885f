"""Who each node believes to be there: views that are late, one-sided and sometimes wrong, as gossip gives them.

This stands for `orchy.swim` behind the port `orchy.cluster.cluster.Membership`. A node's view of another
follows the truth after a while; silence makes it suspect and then dead, after times that each observer draws for
itself. Half of those whose process has ended, and half of those that are wrongly taken for dead, are taken for gone:
there is evidence, true or forged, and their partitions are taken from them at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from orchy.cluster.cluster import Member
from tests.simulation.world import World

#: How often an observer's view follows what it has heard.
TICK_SECONDS = 0.7
DEAD_AFTER_SECONDS = (1.0, 8.0)
#: What a socket's buffer holds.
INBOX_MESSAGES_MAX = 100


@attrs.define
class _Truth:
    """A node as it is. `incarnation` counts its lives; `frozen` ones say nothing."""

    membership: SimulatedMembership
    incarnation: int
    ready: bool = False
    frozen: bool = False
    left: bool = False
    ended: bool = False


class Gossip:
    """The network between the nodes, and what they say of themselves."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.stream("gossip")
        self.cuts: set[tuple[str, str]] = set()  # (from, to): what one says does not reach the other
        self.false_views: dict[tuple[str, str], str] = {}  # (observer, target): the state that it believes in
        self._truths: dict[str, _Truth] = {}
        self._lives: dict[str, int] = {}

    def join(self, name: str) -> SimulatedMembership:
        """A process of this name starts."""
        self._lives[name] = self._lives.get(name, 0) + 1
        membership = SimulatedMembership(self, name, self._lives[name])
        self._truths[name] = _Truth(membership, self._lives[name])
        return membership

    def gone(self, name: str, *, left: bool) -> None:
        """It is not there any more; `left` says that it has told the others."""
        self._truths[name].left = left
        self._truths[name].ended = not left
        self._truths[name].frozen = True

    def frozen(self, name: str, frozen: bool) -> None:
        """It says nothing for a while."""
        self._truths[name].frozen = frozen

    def truths(self) -> dict[str, _Truth]:
        """All that ever were, by name."""
        return self._truths

    def heard(self, target: str, observer: str) -> bool:
        """Whether what one says reaches the other now."""
        return not self._truths[target].frozen and (target, observer) not in self.cuts

    def datagram(self, sender: str, to: str, message: bytes) -> None:
        """Send a wake-up: it may be lost, late, or come twice."""
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
        """Let the views follow the truth until cancelled."""
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
        """As this node sees them now."""
        return list(self._view.values())

    async def changed(self) -> None:
        """Returns when the view is another."""
        await self._change.wait()

    def announce_ready(self, ready: bool) -> None:
        """The others hear it with their next tick."""
        truths = self._gossip.truths()
        if truths[self._name].membership is self:
            truths[self._name].ready = ready
            self._see(attrs.evolve(self._view[self._name], ready=ready))

    def send(self, node: str, message: bytes) -> None:
        """One datagram."""
        truth = self._gossip.truths()[self._name]
        if truth.membership is self and not truth.frozen:
            self._gossip.datagram(self._name, node, message)

    # The network's side.

    def receive(self, message: bytes) -> None:
        """A datagram has come; the node's own task reads it."""
        try:
            self._to_inbox.send_nowait(message)
        except (trio.WouldBlock, trio.BrokenResourceError):
            self._gossip.world.count("wake-ups lost")

    def follow(self) -> None:
        """What a tick changes in this node's view."""
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
        """Whether one that is wrongly taken for dead is taken for gone: drawn when it dies."""
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
