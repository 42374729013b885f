"""Scores -> owners: the best pairs of partition and member first, keeping all loads even to within one. Pure.

With P partitions and n members each member gets floor(P/n), and P mod n of them one more. Pairs are served from the
highest score down. A pair is accepted if its partition is free and its member has fewer than floor(P/n), or exactly as
many while some of the P mod n are left. No partition remains: all members would have rejected it, so all would be full.

Not all pairs are sorted: a heap holds only each partition's best pair that was not rejected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heapreplace


def match(scores: Sequence[Sequence[int]], members: int) -> list[int]:
    """The member (its index) of each partition; `scores[partition][member]`, `members` >= 1.

    Ties go to the lower partition, then to the lower member.
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
        else:  # full for good
            heapreplace(pairs, _pair(scores, partition, next(wishes[partition])))
            continue
        owner[partition] = member
        load[member] += 1
        heappop(pairs)
    return owner


def _pair(scores: Sequence[Sequence[int]], partition: int, member: int) -> tuple[int, int, int]:
    """A tuple that sorts in the order of service."""
    return -scores[partition][member], partition, member


def _best_first(row: Sequence[int]) -> Iterator[int]:
    """The members in a partition's order. Most partitions get the first: the rest is sorted only on demand."""
    yield row.index(max(row))
    yield from sorted(range(len(row)), key=row.__getitem__, reverse=True)[1:]
