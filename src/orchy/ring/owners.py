"""Members -> owners: rendezvous hashing (Thaler and Ravishankar 1998) with a bound on each member's load.

Every (partition, member) pair has a score, the same on every node. The pairs are gone through from the highest
score down: in the first pass a member takes up to floor(P/n) partitions, in the second one more. So the
partitions are spread to within one, whatever the order of the members, and a join or a leave moves little more
than it must.
"""

from __future__ import annotations

from collections.abc import Collection

import mmh3


def owners(members: Collection[str], partitions: int) -> tuple[str, ...]:
    """The owner of each partition, by its index; empty when there is no member."""
    names = sorted(set(members))
    if not names:
        return ()
    # Sorted by score; ties, if there ever is one, by partition and name, so that all nodes agree.
    pairs = sorted((-_score(partition, name), partition, name) for name in names for partition in range(partitions))
    owner: dict[int, str] = {}
    load = dict.fromkeys(names, 0)
    floor = partitions // len(names)
    for bound in (floor, floor + 1):
        for _, partition, name in pairs:
            if partition not in owner and load[name] < bound:
                owner[partition] = name
                load[name] += 1
    return tuple(owner[partition] for partition in range(partitions))


def successors(members: Collection[str], partition: int) -> list[str]:
    """The members in the order in which they are to adopt a partition that its owner does not serve."""
    return sorted(set(members), key=lambda name: (-_score(partition, name), name))


def _score(partition: int, name: str) -> int:
    """64 bits of MurmurHash3 x64-128."""
    return mmh3.hash64(f"{partition}:{name}", signed=False)[0]
