"""Beliefs about a member, and which of two is the newer one. Frozen values."""

from __future__ import annotations

import enum

import attrs

#: (host, port). A host is an IP address, except in the seeds of a join, where a name is resolved at each attempt.
Address = tuple[str, int]


class State(enum.IntEnum):
    """What is believed of a member. Of one incarnation, the higher state beats the lower."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3

    @property
    def live(self) -> bool:
        """Whether it counts as alive: a suspicion alone changes nothing."""
        return self < State.DEAD


@attrs.frozen
class Record:
    """All that is known of a member. `meta` is opaque and at most 512 bytes."""

    name: str
    incarnation: int
    state: State
    address: Address
    meta: bytes = b""

    def beats(self, other: Record) -> bool:
        """Whether this is newer. A total order, so that merging is commutative, associative and idempotent."""
        return self._rank() > other._rank()

    def _rank(self) -> tuple[object, ...]:
        return self.incarnation, self.state, self.address, self.meta


def merge(one: Record, other: Record) -> Record:
    """The newer of two beliefs about one member."""
    return other if other.beats(one) else one
