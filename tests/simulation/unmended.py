"""Mistakes of the engine that the simulation finds and that are not mended yet.

Each name switches the rule, or the part of the workload, off by which seeds would find it. The set is empty when all
of them are mended, and so it should be: it is here so that the simulation can see more than the engine holds today.
"""

from __future__ import annotations

#: A time-out that an owner has taken already ends an attempt although its worker was told that it has its time again.
EXTENSIONS_HOLD = "extensions hold"
#: Events that are sent in bursts count twice when the caller whose task leads the batch leaves in the middle.
BURSTS_COUNT_ONCE = "bursts count once"

UNMENDED: frozenset[str] = frozenset({EXTENSIONS_HOLD, BURSTS_COUNT_ONCE})
