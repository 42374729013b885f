"""Key -> partition."""

from __future__ import annotations

import mmh3


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key: its unsigned 32-bit MurmurHash3 (seed 0) modulo `partitions` (>= 1)."""
    return mmh3.hash(key, 0, signed=False) % partitions
