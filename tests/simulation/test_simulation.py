"""A few seeds, mistakes that seeds once found, and that a run depends on nothing but its seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mutations import MUTATIONS
from tests.simulation.run import run_seed

ROOT = Path(__file__).parents[2]
SEEDS_PER_RUN = 10

#: Mistakes that seeds once found, each with a seed that finds it now. A change of the simulation changes what a seed
#: means, so the mistake itself is kept, as a mutation; `--mutations` prints a seed that finds it.
FOUND = {
    "answers_come_from_an_old_cache": 1,
    "the_timer_loop_keeps_what_is_not_its_own": 8,
    "a_stream_that_ends_goes_on_taking_work": 22,
}


@pytest.mark.parametrize("first", range(0, 60, SEEDS_PER_RUN))
def test_no_seed_breaks_a_rule(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_RUN):
        outcome = run_seed(seed)
        assert outcome.broken is None, "\n".join(
            [f"python -m tests.simulation --seed {seed}  # {outcome.broken}", *outcome.transcript]
        )


@pytest.mark.parametrize("mistake", FOUND)
def test_a_mistake_that_a_seed_found_is_found_again(mistake: str) -> None:
    seed = FOUND[mistake]
    assert run_seed(seed).broken is None
    with MUTATIONS[mistake]():
        assert run_seed(seed).broken is not None


def test_a_seed_gives_the_same_run_each_time() -> None:
    for seed in (1, 2, 3):
        assert run_seed(seed).digest == run_seed(seed).digest


def test_a_seed_gives_the_same_run_in_another_process() -> None:
    """Neither the hashes of strings nor earlier runs have an influence."""
    digests = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "4"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        digests.add(done.stdout.splitlines()[-1])
    assert digests == {f"transcript {run_seed(4).digest}"}
