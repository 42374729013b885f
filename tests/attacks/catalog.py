"""All attacks: importing a file of them registers them."""

from __future__ import annotations

from tests.attacks import death
from tests.attacks.harness import ATTACKS

__all__ = ["ATTACKS", "death"]
