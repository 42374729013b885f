"""All attacks: importing a file of them registers them."""

from __future__ import annotations

from tests.attacks import budget
from tests.attacks.harness import ATTACKS

__all__ = ["ATTACKS", "budget"]
