"""How many partitions a join or a leave moves.

Owners are a function of the set of members, so a leave moves what the join that it takes back had moved: joins are
enough. What is proved: a join that makes n members moves at least floor(P/n), the least that the new one may have.
What is measured: over all cases below at most EXCESS_BOUND x sqrt(P) more than that. There is no proof of it, and
names can be found that do worse; these names were not chosen, and follow from what is printed.
"""

from __future__ import annotations

from math import sqrt

import pytest

from orchy.ring import owners

#: The highest that was seen is 1.12 (63 -> 64 members, 1,024 partitions).
EXCESS_BOUND = 1.5
#: The mean over the sets of names; the highest that was seen is 1.04, in the same case.
MEAN_EXCESS_BOUND = 1.2
NAME_SETS = 5

SMALL = [(before, partitions) for before in range(1, 25) for partitions in (64, 100, 256)]
LARGE = [(before, partitions) for before in (32, 33, 50, 63, 64, 99, 100) for partitions in (64, 256, 1_024)]


def moves(before: int, partitions: int, seed: int) -> tuple[int, int, int]:
    """(moved, moved to the joiner, the least possible) for a join to `before` members."""
    names = [f"node-{seed}-{number}" for number in range(before + 1)]
    was, now = owners(names[:-1], partitions), owners(names, partitions)
    moved = [new for old, new in zip(was, now, strict=True) if old != new]
    return len(moved), moved.count(names[-1]), partitions // (before + 1)


@pytest.mark.parametrize(("before", "partitions"), [*SMALL, *LARGE, (3, 1_024), (10, 1_024)])
def test_a_join_or_a_leave_moves_little_more_than_necessary(before: int, partitions: int) -> None:
    runs = [moves(before, partitions, seed) for seed in range(NAME_SETS)]
    excess = [(moved - least) / sqrt(partitions) for moved, _, least in runs]
    print(f"{before} <-> {before + 1} members, {partitions} partitions, seeds 0 to {NAME_SETS - 1}")
    print(f"(moved, to the one that joined, least): {runs}; excess / sqrt(P): {[round(one, 2) for one in excess]}")
    for moved, joined, least in runs:
        assert least <= joined <= moved
        assert joined <= least + 1
    assert max(excess) <= EXCESS_BOUND
    assert sum(excess) / NAME_SETS <= MEAN_EXCESS_BOUND


@pytest.mark.parametrize("partitions", [64, 256, 1_024])
def test_the_second_member_takes_from_the_first_and_nothing_else_moves(partitions: int) -> None:
    assert moves(1, partitions, 0) == (partitions // 2, partitions // 2, partitions // 2)


def test_more_members_than_partitions_leave_some_idle() -> None:
    names = [f"node-{number}" for number in range(100)]
    assert len(set(owners(names, 64))) == 64
