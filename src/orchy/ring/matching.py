"""Scores -> owners: the best pair of a partition and a member first, as long as all stay even to within one. Pure.

With P partitions and n members each member is to have floor(P/n), and P mod n of them one more. The pairs are gone
through from the highest score down. A pair counts if its partition is free and its member has fewer than floor(P/n),
or just so many while not all of the P mod n are given. No partition is left over: all members would have refused it,
so all would be full.

Not all pairs are sorted: only each partition's best pair that was not refused waits in a heap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heapreplace


def match(scores: Sequence[Sequence[int]], members: int) -> list[int]:
    """The member (an index) of each partition; `scores[partition][member]`, `members` >= 1.

    Of equal scores the one of the lower partition comes first, then that of the lower member.
    """
    floor, one_more = divmod(len(scores), members)
    owner = [-1] * len(scores)
    load = [0] * members
    wishes = [_best_first(row) for row in scores]
    pairs = [_pair(scores, partition, next(wish)) for partition, wish in enumerate(wishes)]
    heapify(pairs)
    while pairs:
        _, partition, member = pairs[0]
        if load[member] < floor:
            pass
        elif load[member] == floor and one_more:
            one_more -= 1
        else:  # for good: it never has room again
            heapreplace(pairs, _pair(scores, partition, next(wishes[partition])))
            continue
        owner[partition] = member
        load[member] += 1
        heappop(pairs)
    return owner


def _pair(scores: Sequence[Sequence[int]], partition: int, member: int) -> tuple[int, int, int]:
    """What sorts as pairs are gone through."""
    return -scores[partition][member], partition, member


def _best_first(row: Sequence[int]) -> Iterator[int]:
    """The members in a partition's order. Many get the first: what follows it is sorted only when it is asked for."""
    yield row.index(max(row))
    yield from sorted(range(len(row)), key=row.__getitem__, reverse=True)[1:]
