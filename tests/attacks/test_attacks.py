"""A real node survives each attack, answers other clients, and stays within its memory.

How long others wait is bounded loosely here, as tests run beside each other; `nox -s attacks` is strict.
"""

from __future__ import annotations

import pytest

from tests.attacks import catalog
from tests.attacks.harness import observe

pytestmark = pytest.mark.real
#: How much longer others may wait than in a run on a quiet machine; at least this long.
NOISE_FACTOR = 10
NOISE_SECONDS = 5.0


@pytest.mark.parametrize("name", sorted(name for name, one in catalog.ATTACKS.items() if not one.slow))
def test_a_node_survives(name, tmp_path):
    attack = catalog.ATTACKS[name]
    observed = observe(attack, tmp_path)
    assert observed.alive, (tmp_path / "node-0.log").read_text(errors="replace")
    assert observed.requests > 0
    assert observed.grown_mb <= attack.memory_mb_max, observed.shown
    assert observed.longest_seconds <= max(NOISE_SECONDS, NOISE_FACTOR * attack.waits_seconds_max), observed.shown
