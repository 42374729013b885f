"""Scores -> owners: who gets what when the best pairs are served first. Pure.

Two rounds. In the first, each member has room for floor(P/n) partitions and is full at its end; in the second,
each takes at most one of those that are left. A round serves the pairs of a partition and a member from the
highest score down: a pair counts if the partition is still free and the member has room.

That is a matching in which both sides prefer the higher score. As all rank the pairs alike, there is one stable
matching only, and this is it; so it is found as Gale and Shapley (1962) do, without the sorting of all P x n
pairs: partitions ask members, the best first, and a member that is full lets go of the lowest it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappush, heappushpop


def match(scores: Sequence[Sequence[int]], members: int) -> list[int]:
    """The member (an index) of each partition; `scores[partition][member]`, `members` >= 1.

    Of equal scores the one of the lower partition comes first, then that of the lower member.
    """
    owner = [-1] * len(scores)
    floor = len(scores) // members
    left: list[int] = list(range(len(scores)))
    for room in (floor, 1):
        if room:
            for member, held in enumerate(_serve(scores, left, members, room)):
                for partition in held:
                    owner[partition] = member
            left = [partition for partition in left if owner[partition] < 0]
    return owner


def _serve(scores: Sequence[Sequence[int]], partitions: Iterable[int], members: int, room: int) -> list[list[int]]:
    """One round: the partitions of each member, at most `room` (>= 1)."""
    wishes = {partition: _best_first(scores[partition]) for partition in partitions}
    # Of each member a heap of (score, -partition): in front what it lets go of first.
    held: list[list[tuple[int, int]]] = [[] for _ in range(members)]
    for asking in wishes:
        partition: int | None = asking
        while partition is not None and (member := next(wishes[partition], None)) is not None:
            entry = (scores[partition][member], -partition)
            if len(held[member]) < room:
                heappush(held[member], entry)
                partition = None
            else:
                partition = -heappushpop(held[member], entry)[1]
    return [[-minus for _, minus in heap] for heap in held]


def _best_first(row: Sequence[int]) -> Iterator[int]:
    """The members in a partition's order. Most get the first or a near one: what follows it is sorted when asked for."""
    yield row.index(max(row))
    yield from sorted(range(len(row)), key=row.__getitem__, reverse=True)[1:]
