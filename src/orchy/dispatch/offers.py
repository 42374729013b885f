"""Offers work that nobody takes here to the other nodes, whose workers may be waiting for just that.

Any node may claim from any partition; its owner is only the first to know that there is work. An owner whose work
finds no taker tells other nodes, one datagram each: at once the nodes that have said lately that they have takers for
it, and in rounds some of all nodes, in turn. What was offered and is still there in the next round is offered again,
even if there are takers here: they may be busy.

A node that receives an offer claims if somebody asks there, and answers that it has takers; the owner remembers that
for a while. A node that finds an offered partition empty says so too, and the offers end. Any of these messages may be
lost: the next round makes up for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn, Protocol

import trio

from orchy.dispatch.dispatcher import Dispatcher
from orchy.dispatch.limits import LIMITS, TIMING, DispatchLimits, DispatchTiming

#: The kinds of message: work is offered; the sender has takers for an action, or has taken all of it.
OFFER = "offer"
TAKER = "taker"


class Peers(Protocol):
    """The other nodes."""

    def peers(self) -> Sequence[str]:
        """Those that work."""
        ...

    def owner_of(self, partition: int) -> str | None:
        """Who hands out the work of a partition, as far as is known."""
        ...

    def send_offer(self, node: str, kind: str, action_name: str, partitions: Sequence[int]) -> None:
        """Send one datagram, best effort; it carries this node's name."""
        ...


class Offers:
    """What this node offers to others, and how it handles their offers."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        peers: Peers,
        limits: DispatchLimits = LIMITS,
        timing: DispatchTiming = TIMING,
    ) -> None:
        self._dispatcher = dispatcher
        self._peers = peers
        self._limits = limits
        self._timing = timing
        self._takers: dict[str, dict[str, float]] = {}  # action -> node -> until when it counts as having takers
        self._unwanted: dict[str, dict[int, None]] = {}  # action -> partitions to offer at once
        self._has_unwanted = trio.Event()
        self._last_round: Mapping[str, Sequence[int]] = {}
        self._turn = 0
        dispatcher.on_unwanted = self._offer_soon
        dispatcher.on_emptied = self._report_emptied

    async def run(self) -> NoReturn:
        """Offer what nobody takes, until cancelled."""
        next_at = trio.current_time() + self._timing.offer_seconds
        while True:
            with trio.move_on_at(next_at):
                await self._has_unwanted.wait()
            if self._has_unwanted.is_set():
                self._has_unwanted = trio.Event()
                self._offer_to_takers()
                await trio.sleep(self._timing.soon_seconds)
            if trio.current_time() >= next_at:
                next_at = trio.current_time() + self._timing.offer_seconds
                self._offer_to_some()

    # The owner's side.

    def _offer_soon(self, partition: int, action_name: str) -> None:
        if action_name in self._takers:
            self._unwanted.setdefault(action_name, {})[partition] = None
            self._has_unwanted.set()

    def _offer_to_takers(self) -> None:
        """Offer each action to one node with takers, another one each time."""
        unwanted, self._unwanted = self._unwanted, {}
        for action_name, partitions in unwanted.items():
            takers = self._live_takers(action_name)
            if takers:
                self._turn += 1
                self._send(takers[self._turn % len(takers)], action_name, list(partitions))

    def _offer_to_some(self) -> None:
        """Offer each action to the nodes with takers, and to others in turn."""
        last_round, self._last_round = self._last_round, self._dispatcher.unclaimed()
        peers = self._peers.peers()
        if not peers:
            return
        left = self._limits.offers_max
        per_offer = self._limits.nodes_per_offer
        for action_name, partitions in self._last_round.items():
            if self._dispatcher.wants(action_name):  # takers here come first, so offer only what they have left
                partitions = [partition for partition in partitions if partition in last_round.get(action_name, ())]
            if not partitions or left <= 0:
                continue
            self._turn += per_offer
            some = [peers[(self._turn + number) % len(peers)] for number in range(min(per_offer, len(peers)))]
            chosen = list(dict.fromkeys([*self._live_takers(action_name), *some]))[:per_offer]
            for node in chosen[:left]:
                self._send(node, action_name, partitions)
            left -= len(chosen)

    def _send(self, node: str, action_name: str, partitions: Sequence[int]) -> None:
        first = self._turn % len(partitions)
        rotated = [*partitions[first:], *partitions[:first]]
        self._peers.send_offer(node, OFFER, action_name, rotated[: self._limits.partitions_per_offer])

    def _live_takers(self, action_name: str) -> list[str]:
        now = trio.current_time()
        takers = {node: until for node, until in self._takers.get(action_name, {}).items() if until > now}
        if takers:
            self._takers[action_name] = takers
        else:
            self._takers.pop(action_name, None)
        return list(takers)

    # Messages of other nodes.

    def receive(self, kind: object, node: object, action_name: object, partitions: object) -> bool:
        """Handle the fields of a message; False: they make no such message."""
        if not (isinstance(node, str) and isinstance(action_name, str) and isinstance(partitions, list)):
            return False
        if len(partitions) > self._limits.partitions_per_offer:
            return False
        if not all(type(partition) is int for partition in partitions):
            return False
        if node not in self._peers.peers():
            return True
        if kind == OFFER:
            known = [partition for partition in partitions if self._peers.owner_of(partition) is not None]
            self._dispatcher.offered(action_name, known)
            if self._dispatcher.wants(action_name):
                self._peers.send_offer(node, TAKER, action_name, [])
        elif kind == TAKER:
            if action_name in self._takers or len(self._takers) < self._limits.taken_actions_max:
                self._takers.setdefault(action_name, {})[node] = trio.current_time() + self._timing.taker_seconds
            self._dispatcher.emptied(action_name, partitions)
        return True

    def _report_emptied(self, action_name: str, partitions: Sequence[int]) -> None:
        by_owner: dict[str, list[int]] = {}
        for partition in partitions:
            owner = self._peers.owner_of(partition)
            if owner is not None:
                by_owner.setdefault(owner, []).append(partition)
        for owner, emptied in by_owner.items():
            self._peers.send_offer(owner, TAKER, action_name, emptied)
