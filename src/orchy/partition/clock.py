"""The store's clock, watched: the only one that decides anything durable, so a jump of it ends delays early or late.

It is compared with this node's own clock, which nobody sets and which counts from the start of the computer. An answer
of the store was made between the call and its return, so the difference of the two clocks is known as an interval; two
intervals that do not meet are a jump. Pure: the clocks are arguments.
"""

from __future__ import annotations

import attrs

#: Clocks that are steered go apart by less than this between two looks.
JUMP_MIN_MS = 500.0


@attrs.define
class ClockWatch:
    """What is known of how far the store's clock is ahead of this node's. `jumps` counts those that were seen."""

    jumps: int = 0
    _least_ms: float | None = None
    _most_ms: float | None = None

    def note(self, store_ms: int, asked_ms: float, answered_ms: float) -> float | None:
        """The store's clock showed `store_ms` at some time between two of this node's. By how many ms it has jumped at
        least since the last note (negative: back), if it has.
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
