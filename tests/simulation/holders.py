"""Which node holds each partition. Epochs rise, and no node acquires what another one still holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs
import trio

from orchy.store.leases import Lease
from tests.simulation.books import require
from tests.simulation.world import World

#: Leases begin and end at whole milliseconds, and floating point adds a little error.
_ROUNDING_SECONDS = 0.001 + 1e-6


@attrs.define
class _Holder:
    node: str
    epoch: int
    since: float
    until: float  # when it runs out; -inf once released


class Holders:
    """The holders of all partitions, as the store has granted them. Methods raise Violation."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._holders: dict[int, _Holder] = {}

    def check_newest(self, lease: Lease) -> None:
        """A scan was answered for this lease."""
        holder = self._holders.get(lease.partition)
        good = holder is not None and holder.epoch == lease.epoch
        require(good, "timers go to the newest epoch only", f"{lease}, held: {holder}")

    def acquired(self, leases: Sequence[Lease], node: str, lease_ms: int, instead_of: Collection[str]) -> None:
        """A node got leases; `instead_of` are the nodes that it declared gone."""
        now = trio.current_time()
        for lease in leases:
            before = self._holders.get(lease.partition)
            if before is not None:
                require(lease.epoch > before.epoch, "epochs rise", f"{lease} after {before}")
                free = before.node in (node, *instead_of) or before.until <= now + _ROUNDING_SECONDS
                require(free, "a partition has one holder", f"{node} got {lease}, held: {before}")
            self._holders[lease.partition] = _Holder(node, lease.epoch, now, now + lease_ms / 1000)
            self._world.note(f"p{lease.partition} goes to {node}, epoch {lease.epoch}")

    def renewed(self, leases: Sequence[Lease], node: str, lease_ms: int) -> None:
        """A node renewed leases."""
        for lease in leases:
            holder = self._holders.get(lease.partition)
            good = holder is not None and holder.node == node and holder.epoch == lease.epoch
            require(good, "a lease that is another's is not prolonged", f"{node}, {lease}, held: {holder}")
            assert holder is not None
            require(holder.until > float("-inf"), "a lease that was given up is not prolonged", lease)
            holder.until = trio.current_time() + lease_ms / 1000

    def released(self, leases: Sequence[Lease], node: str) -> None:
        """A node released those of the leases that it still holds."""
        for lease in leases:
            holder = self._holders.get(lease.partition)
            if holder is not None and holder.node == node and holder.epoch == lease.epoch:
                holder.until = float("-inf")
                self._world.note(f"p{lease.partition} is given up by {node}")

    def now(self) -> dict[int, str]:
        """The current holder of each partition."""
        now = trio.current_time()
        return {partition: holder.node for partition, holder in self._holders.items() if holder.until > now}

    def held_since_before(self, node: str, moment: float) -> list[int]:
        """What a node holds now and held at `moment`; an acquisition may be in flight when its node stops."""
        return [
            partition
            for partition, holder in self._holders.items()
            if holder.node == node and holder.since < moment and holder.until > trio.current_time()
        ]
