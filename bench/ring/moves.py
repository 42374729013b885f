"""How many partitions move when a member joins or leaves, how even the load is then, and how long that takes.

The names, and the member that leaves, follow from a seed.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from bench.harness.figures import Measured, figure
from bench.harness.options import Options
from bench.ring.schemes import SCHEMES, Scheme

RUNS = 20
CHANGES = ((3, 4), (10, 11), (100, 99))
PARTITIONS = (64, 256, 1_024)


def change(seed: int, before: int, after: int) -> tuple[list[str], list[str]]:
    """The names before and after one member joined or a random one left."""
    names = [f"node-{seed}-{number}" for number in range(max(before, after))]
    fewer = list(names)
    fewer.remove(names[-1] if after > before else random.Random(seed).choice(names))
    return (fewer, names) if after > before else (names, fewer)


def least_moves(loads: Sequence[int], stay: int, joined: int) -> int:
    """The fewest partitions that move from a balanced ring to any balanced one.

    `loads` are those before, of the `stay` members that stay first; the others' partitions must move anyway.
    """
    floor, more = divmod(sum(loads), stay + joined)
    targets = [floor + 1] * more + [floor] * (stay + joined - more)
    kept = zip(sorted(loads[:stay], reverse=True), targets, strict=False)
    return sum(loads) - sum(min(load, target) for load, target in kept)


def least_for(before: Collection[str], after: Collection[str], partitions: int) -> int:
    """The fewest moves from Orchy's assignment for `before`, which is balanced."""
    load = Counter(SCHEMES["Orchy"](before, partitions))
    staying = sorted(set(before) & set(after))
    loads = [load[name] for name in [*staying, *(set(before) - set(after))]]
    return least_moves(loads, len(staying), len(set(after) - set(before)))


def measure(scheme: Scheme, changes: Sequence[tuple[list[str], list[str]]], partitions: int) -> tuple[float, ...]:
    """(moved, max - min, max / mean, ms)."""
    moved, spread, over, ms = [], [], [], []
    for before, after in changes:
        was = scheme(before, partitions)
        began = time.perf_counter()
        owner = scheme(after, partitions)
        ms.append((time.perf_counter() - began) * 1_000)
        moved.append(sum(old != new for old, new in zip(was, owner, strict=True)))
        load = Counter(owner)
        loads = [load[name] for name in after]
        spread.append(max(loads) - min(loads))
        over.append(max(loads) / (partitions / len(after)))
    return statistics.fmean(moved), statistics.fmean(spread), statistics.fmean(over), statistics.median(ms)


def run(options: Options) -> Iterator[Measured]:
    """Orchy's ring alone: how long it takes to compute, and its moves over the fewest possible."""
    seeds = range(options.count(RUNS, 5))
    for before, after in CHANGES:
        changes = [change(seed, before, after) for seed in seeds]
        for partitions in PARTITIONS:
            name = f"ring, {partitions:,} partitions, {before} -> {after} members"
            moved, spread, _, ms = measure(SCHEMES["Orchy"], changes, partitions)
            least = statistics.fmean(least_for(*one, partitions) for one in changes)
            yield figure(f"{name}: computed in", ms, "ms")
            yield figure(f"{name}: moved / the fewest", moved / least, "times")
            assert spread <= 1, "balanced to within one partition"
