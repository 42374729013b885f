"""How long a suspicion lasts (Lifeguard, section 4.2, and its equation for the timeout)."""

from __future__ import annotations

import math


class Suspicion:
    """A suspected member has from `minimum` to `maximum` seconds to object, less with each independent accuser."""

    def __init__(self, started: float, accuser: str, minimum: float, maximum: float, expected: int) -> None:
        self.started = started
        #: The first member to suspect it.
        self.accuser = accuser
        #: When the suspect was pinged for the last time.
        self.asked_at: float | None = None
        self._accusers = {accuser}
        self._minimum = minimum
        self._maximum = maximum
        self._expected = expected

    def confirm(self, accuser: str) -> bool:
        """Whether this accuser is a new one, and counts."""
        if accuser in self._accusers or len(self._accusers) > self._expected:
            return False
        self._accusers.add(accuser)
        return True

    @property
    def seconds(self) -> float:
        """max - (max - min) * log(c + 1) / log(k + 1), with c confirmations of k that are expected."""
        if self._expected < 1:
            return self._minimum
        done = math.log(len(self._accusers)) / math.log(self._expected + 1)
        return max(self._minimum, self._maximum - (self._maximum - self._minimum) * done)
