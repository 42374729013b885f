"""Partitions of keys, owners of partitions: the same on every node, spread evenly, moved sparingly."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.ring import owners, partition_of, successors

NAMES = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=12, unique=True)


@given(st.text(), st.integers(1, 1_024))
def test_a_key_has_one_partition(key: str, partitions: int) -> None:
    assert partition_of(key, partitions) == partition_of(key, partitions)
    assert 0 <= partition_of(key, partitions) < partitions


def test_partitions_of_known_keys_never_change() -> None:
    assert [partition_of(key, 64) for key in ("", "a", "flow-1", "ä")] == [0, 50, 61, 20]


def test_keys_spread_over_all_partitions() -> None:
    load = [0] * 64
    for number in range(64_000):
        load[partition_of(f"flow-{number}", 64)] += 1
    assert min(load) > 850
    assert max(load) < 1_150


@given(NAMES, st.integers(1, 256), st.randoms(use_true_random=False))
def test_any_order_of_members_gives_the_same_ring(names: list[str], partitions: int, chance: random.Random) -> None:
    shuffled = list(names)
    chance.shuffle(shuffled)
    assert owners(names, partitions) == owners(shuffled, partitions) == owners([*shuffled, *names], partitions)


@given(NAMES, st.integers(1, 256))
def test_the_load_is_even_to_within_one(names: list[str], partitions: int) -> None:
    owned = owners(names, partitions)
    assert len(owned) == partitions
    loads = [owned.count(name) for name in names]
    assert max(loads) - min(loads) <= 1


@pytest.mark.parametrize("partitions", [64, 256, 1_024])
@pytest.mark.parametrize("count", [3, 10])
def test_a_join_and_a_leave_move_little_more_than_they_must(partitions: int, count: int) -> None:
    names = [f"node-{number}" for number in range(count + 1)]
    before, after = owners(names[:-1], partitions), owners(names, partitions)
    moved = sum(old != new for old, new in zip(before, after, strict=True))
    must = after.count(names[-1])
    assert must <= moved <= 2 * must


def test_without_members_nobody_owns_anything() -> None:
    assert owners([], 64) == ()


@given(NAMES, st.integers(0, 256))
def test_successors_are_all_members_in_an_order_of_their_own(names: list[str], partition: int) -> None:
    order = successors(names, partition)
    assert sorted(order) == sorted(names)
    assert order == successors(names[::-1], partition)
