"""Work that nobody takes here is offered to the other nodes: their workers may be waiting for just that.

Any node may claim from any partition; its owner is only the one who knows first that there is work. So an owner whose
work finds no taker tells others, one datagram each: at once those who have said lately that they have takers for it,
and twice a second some of all, in turn. What was offered and is not taken soon is offered again, whether or not there
are takers here: they may have their hands full.

A node that was told claims if somebody here asks, and says so; the owner remembers that for a while. When it finds a
partition empty it says that too, and the offers end. All of these messages may be lost: the next ones say it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn, Protocol

import trio

from orchy.dispatch.dispatcher import Dispatcher

#: How often work that nobody takes is offered.
OFFER_SECONDS = 0.5
#: The most nodes that are told of an action each time, and the most datagrams in all.
NODES_PER_OFFER = 16
OFFERS_MAX = 64
#: Between two offers at once.
SOON_SECONDS = 0.01
#: How long a node counts as one that has takers for an action, and of how many actions that is known.
TAKER_SECONDS = 10.0
TAKEN_ACTIONS_MAX = 1_000
#: The most partitions that one message names.
PARTITIONS_PER_OFFER = 32

#: What a message begins with.
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
        """One datagram, best effort; this node's name goes with it."""
        ...


class Offers:
    """What this node offers to others, and what it makes of their offers."""

    def __init__(self, dispatcher: Dispatcher, peers: Peers) -> None:
        self._dispatcher = dispatcher
        self._peers = peers
        self._takers: dict[str, dict[str, float]] = {}  # action -> node -> until when it counts as one
        self._soon: dict[str, dict[int, None]] = {}
        self._has_some = trio.Event()
        self._before: Mapping[str, Sequence[int]] = {}
        self._turn = 0
        dispatcher.on_unwanted = self._offer_soon
        dispatcher.on_emptied = self._say_emptied

    async def run(self) -> NoReturn:
        """Offer what nobody takes, until cancelled."""
        next_at = trio.current_time() + OFFER_SECONDS
        while True:
            with trio.move_on_at(next_at):
                await self._has_some.wait()
            if self._has_some.is_set():
                self._has_some = trio.Event()
                self._offer_to_takers()
                await trio.sleep(SOON_SECONDS)
            if trio.current_time() >= next_at:
                next_at = trio.current_time() + OFFER_SECONDS
                self._offer_to_some()

    # The owner's side.

    def _offer_soon(self, partition: int, action_name: str) -> None:
        if action_name in self._takers:
            self._soon.setdefault(action_name, {})[partition] = None
            self._has_some.set()

    def _offer_to_takers(self) -> None:
        """Tell one that has takers, another one each time."""
        soon, self._soon = self._soon, {}
        for action_name, partitions in soon.items():
            takers = self._live_takers(action_name)
            if takers:
                self._turn += 1
                self._tell(takers[self._turn % len(takers)], action_name, list(partitions))

    def _offer_to_some(self) -> None:
        """Tell those that have takers, and others in turn."""
        before, self._before = self._before, self._dispatcher.unclaimed()
        peers = self._peers.peers()
        if not peers:
            return
        left = OFFERS_MAX
        for action_name, partitions in self._before.items():
            if self._dispatcher.wants(action_name):  # it should be gone in a moment, but has stayed
                partitions = [partition for partition in partitions if partition in before.get(action_name, ())]
            if not partitions or left <= 0:
                continue
            self._turn += NODES_PER_OFFER
            some = [peers[(self._turn + number) % len(peers)] for number in range(min(NODES_PER_OFFER, len(peers)))]
            told = list(dict.fromkeys([*self._live_takers(action_name), *some]))[:NODES_PER_OFFER]
            for node in told[:left]:
                self._tell(node, action_name, partitions)
            left -= len(told)

    def _tell(self, node: str, action_name: str, partitions: Sequence[int]) -> None:
        first = self._turn % len(partitions)
        turned = [*partitions[first:], *partitions[:first]]
        self._peers.send_offer(node, OFFER, action_name, turned[:PARTITIONS_PER_OFFER])

    def _live_takers(self, action_name: str) -> list[str]:
        now = trio.current_time()
        takers = {node: until for node, until in self._takers.get(action_name, {}).items() if until > now}
        if takers:
            self._takers[action_name] = takers
        else:
            self._takers.pop(action_name, None)
        return list(takers)

    # What other nodes say.

    def receive(self, kind: object, node: object, action_name: object, partitions: object) -> bool:
        """Take in a message of another node; False: it is none."""
        if not (isinstance(node, str) and isinstance(action_name, str) and isinstance(partitions, list)):
            return False
        if len(partitions) > PARTITIONS_PER_OFFER or not all(type(partition) is int for partition in partitions):
            return False
        if node not in self._peers.peers():
            return True
        if kind == OFFER:
            mine = [partition for partition in partitions if self._peers.owner_of(partition) is not None]
            self._dispatcher.offered(action_name, mine)
            if self._dispatcher.wants(action_name):
                self._peers.send_offer(node, TAKER, action_name, [])
        elif kind == TAKER:
            if action_name in self._takers or len(self._takers) < TAKEN_ACTIONS_MAX:
                self._takers.setdefault(action_name, {})[node] = trio.current_time() + TAKER_SECONDS
            self._dispatcher.emptied(action_name, partitions)
        return True

    def _say_emptied(self, action_name: str, partitions: Sequence[int]) -> None:
        by_owner: dict[str, list[int]] = {}
        for partition in partitions:
            owner = self._peers.owner_of(partition)
            if owner is not None:
                by_owner.setdefault(owner, []).append(partition)
        for owner, emptied in by_owner.items():
            self._peers.send_offer(owner, TAKER, action_name, emptied)
