"""All randomness comes from the seed, so the same seed gives the same run.

Two things would differ between runs: random numbers, which `stream` draws from the seed, and the order in which Trio
runs tasks that are ready at the same time, which `determined` controls.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import trio._core._run as trio_run


def stream(seed: int, purpose: str) -> random.Random:
    """Random numbers for one purpose, so that a change in how one part draws does not affect the others.

    A string seeds `Random` by its SHA-512, so it doesn't depend on PYTHONHASHSEED.
    """
    return random.Random(f"{seed}:{purpose}")


def uuids(rng: random.Random) -> Callable[[], UUID]:
    """A replacement for `uuid4`."""
    return lambda: UUID(int=rng.getrandbits(128), version=4)


@contextmanager
def determined(seed: int) -> Iterator[None]:
    """Make Trio shuffle ready tasks by the seed.

    Trio has no public switch for this. The two names below are what its own tests use, and what pytest-trio and
    Hypothesis set (`trio._core._run._hypothesis_plugin_setup`): with the flag, a batch is sorted by the tasks'
    creation before `_r` shuffles it, so that the order of a set has no influence.
    """
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r.seed(seed)
    try:
        yield
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before[0]  # type: ignore[misc]
        trio_run._r.setstate(before[1])
