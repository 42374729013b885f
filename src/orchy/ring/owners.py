"""Members -> owners: rendezvous hashing (Thaler and Ravishankar 1998) with a bound on each member's load.

Every (partition, member) pair has a score, the same on every node. The pairs are served from the highest score down,
as long as all loads stay even to within one (`matching.py`). So a partition is with a member other than its best only
if each better one is full of partitions that score higher with it.

A join or a leave moves what the balance demands, floor(P/n) for a join that makes n members, and some more: a member
that loses a partition to the new one then has space for the next in its order. How much more is measured, not proved:
at most 1.12 sqrt(P) in the 475 joins of `tests/ring/test_moves.py`, 0.5 sqrt(P) on average; see `docs/ring.md`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import mmh3

from orchy.ring.matching import match

_SCORE_MASK = 2**64 - 1


def owners(members: Collection[str], partitions: int) -> tuple[str, ...]:
    """The owner of each partition, by its index; empty when there is no member."""
    names = sorted(set(members))
    if not names:
        return ()
    encoded = [name.encode() for name in names]
    scores = [_scores(partition, encoded) for partition in range(partitions)]
    return tuple(names[member] for member in match(scores, len(names)))


def successors(members: Collection[str], partition: int) -> list[str]:
    """The members in the order in which they adopt a partition that its owner does not serve."""
    names = sorted(set(members))
    scores = dict(zip(names, _scores(partition, [name.encode() for name in names]), strict=True))
    return sorted(names, key=lambda name: (-scores[name], name))


def _scores(partition: int, names: Sequence[bytes]) -> list[int]:
    """For each member, the first 64 bits of the MurmurHash3 x64-128 of "<partition>:<name>" (names in UTF-8)."""
    digest, prefix = mmh3.mmh3_x64_128_uintdigest, b"%d:" % partition
    return [digest(prefix + name) & _SCORE_MASK for name in names]
