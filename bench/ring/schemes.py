"""Ways to assign partitions to members: Orchy's ring, and two others to compare it with."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection
from fractions import Fraction
from math import ceil

import mmh3

from orchy.ring import owners

VIRTUAL_NODES = 20
#: No member gets more than this times the mean, rounded up.
LOAD_BOUND = Fraction(5, 4)

Scheme = Callable[[Collection[str], int], tuple[str, ...]]


def rendezvous(members: Collection[str], partitions: int) -> tuple[str, ...]:
    """Highest random weight (Thaler and Ravishankar 1998): each partition's best member, whatever else it has."""
    names = sorted(members)
    return tuple(
        max(names, key=lambda name, partition=partition: _hash(b"%d:%b" % (partition, name.encode())))
        for partition in range(partitions)
    )


def bounded_consistent(members: Collection[str], partitions: int) -> tuple[str, ...]:
    """Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam 2016).

    As the Go package buraksezer/consistent does it, with its defaults: members stand on a circle at VIRTUAL_NODES
    places each, and a partition goes to the first member at or after its own place that is not full. Partitions
    come in the order of their numbers.
    """
    circle = sorted(
        (_hash(b"%d:%b" % (place, name.encode())), name) for name in members for place in range(VIRTUAL_NODES)
    )
    places = [place for place, _ in circle]
    bound = ceil(Fraction(partitions, len(members)) * LOAD_BOUND)
    load = dict.fromkeys(members, 0)
    owner = []
    for partition in range(partitions):
        at = bisect_left(places, _hash(partition.to_bytes(8, "little")))
        while load[name := circle[at % len(circle)][1]] == bound:
            at += 1
        load[name] += 1
        owner.append(name)
    return tuple(owner)


def _hash(key: bytes) -> int:
    return mmh3.mmh3_x64_128_uintdigest(key)


SCHEMES: dict[str, Scheme] = {
    "Orchy": owners,
    "rendezvous": rendezvous,
    "bounded consistent": bounded_consistent,
}
