"""Watches the store's clock for jumps: it alone decides when delays end, so a jump makes them end early or late.

It is compared with this node's monotonic clock. The store read its clock at some time between a call and its return,
so the difference of the two clocks is known as an interval; two intervals that don't overlap mean a jump. Pure: the
clocks are arguments.
"""

from __future__ import annotations

import attrs

#: Between two scans, clocks that are merely slewed drift apart by less than this.
JUMP_MIN_MS = 500.0


@attrs.define
class ClockWatch:
    """How far the store's clock is ahead of this node's, as an interval; `jumps` counts the jumps seen."""

    jumps: int = 0
    _least_ms: float | None = None
    _most_ms: float | None = None

    def note(self, store_ms: int, asked_ms: float, answered_ms: float) -> float | None:
        """The store's clock showed `store_ms` between these two times of this node's clock.

        Returns the least number of ms by which it has jumped since the last note (negative: back); None if it has not.
        """
        least_ms, most_ms = store_ms - answered_ms, store_ms + 1 - asked_ms
        jump_ms: float | None = None
        if self._least_ms is not None and self._most_ms is not None:
            if least_ms > self._most_ms + JUMP_MIN_MS:
                jump_ms = least_ms - self._most_ms
            elif most_ms < self._least_ms - JUMP_MIN_MS:
                jump_ms = most_ms - self._least_ms
        if jump_ms is not None:
            self.jumps += 1
        self._least_ms, self._most_ms = least_ms, most_ms
        return jump_ms
