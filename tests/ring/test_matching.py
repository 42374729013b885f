"""Scores -> owners: for any scores the same as by sorting all pairs, and no swap would be an improvement."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from orchy.ring.matching import match


@st.composite
def score_tables(draw: st.DrawFn) -> tuple[list[list[int]], int]:
    """Scores of up to 40 partitions and 8 members, often with ties."""
    members = draw(st.integers(1, 8))
    highest = draw(st.sampled_from([0, 2, 2**64 - 1]))
    row = st.lists(st.integers(0, highest), min_size=members, max_size=members)
    return draw(st.lists(row, max_size=40)), members


def match_by_sorting(scores: Sequence[Sequence[int]], members: int) -> list[int]:
    """The rule as documented: all pairs, from the highest score down."""
    floor, one_more = divmod(len(scores), members)
    owner: dict[int, int] = {}
    load = [0] * members
    pairs = [(-score, partition, member) for partition, row in enumerate(scores) for member, score in enumerate(row)]
    for _, partition, member in sorted(pairs):
        if partition not in owner and load[member] < floor + (one_more > 0):
            one_more -= load[member] == floor
            owner[partition] = member
            load[member] += 1
    return [owner[partition] for partition in range(len(scores))]


@given(score_tables())
def test_matching_equals_sorting_all_pairs(table: tuple[list[list[int]], int]) -> None:
    scores, members = table
    assert match(scores, members) == match_by_sorting(scores, members)


@given(score_tables())
def test_loads_are_even_to_within_one(table: tuple[list[list[int]], int]) -> None:
    scores, members = table
    owner = match(scores, members)
    assert len(owner) == len(scores)
    loads = [owner.count(member) for member in range(members)]
    assert max(loads) - min(loads) <= 1


@given(score_tables())
def test_a_member_that_was_passed_over_is_full_of_higher_scores(table: tuple[list[list[int]], int]) -> None:
    scores, members = table
    owner = match(scores, members)
    for partition, row in enumerate(scores):
        for better in range(members):
            if row[better] > row[owner[partition]]:
                held = [scores[other][better] for other in range(len(scores)) if owner[other] == better]
                assert len(held) >= len(scores) // members
                assert all(score >= row[better] for score in held)
