"""Partitions of keys, owners of partitions: the same on every node, spread evenly, moved sparingly."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from orchy.ring import owners, partition_of, successors

NAMES = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=12, unique=True)


@given(st.text(), st.integers(1, 1_024))
def test_a_key_has_exactly_one_partition(key: str, partitions: int) -> None:
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


def test_without_members_nobody_owns_anything() -> None:
    assert owners([], 64) == ()


@given(NAMES, st.integers(0, 256))
def test_successors_are_all_members_in_an_order_of_their_own(names: list[str], partition: int) -> None:
    order = successors(names, partition)
    assert sorted(order) == sorted(names)
    assert order == successors(names[::-1], partition) == successors([*names, *names], partition)


@given(NAMES.filter(lambda names: len(names) > 1), st.integers(0, 256))
def test_successors_keep_their_order_when_a_member_leaves(names: list[str], partition: int) -> None:
    order = successors(names, partition)
    assert successors(names[1:], partition) == [name for name in order if name != names[0]]


@given(NAMES, st.integers(1, 256))
def test_a_partition_is_passed_on_only_by_members_that_are_full(names: list[str], partitions: int) -> None:
    owned = owners(names, partitions)
    for partition, owner in enumerate(owned):
        order = successors(names, partition)
        for better in order[: order.index(owner)]:
            assert owned.count(better) >= partitions // len(names)


def test_successors_of_partitions_differ() -> None:
    names = [f"node-{number}" for number in range(4)]
    assert len({tuple(successors(names, partition)) for partition in range(1_024)}) == 24


def test_without_members_there_are_no_successors() -> None:
    assert successors([], 7) == []
