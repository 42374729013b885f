"""Local health (Lifeguard, section 4.1): a member that is slow itself gives others more time."""

from __future__ import annotations


class Awareness:
    """A score from 0 (healthy) to `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.score = 0

    def add(self, points: int) -> None:
        """Worsen the score by so many points, or improve it if negative; within the bounds."""
        self.score = min(max(self.score + points, 0), self._most)

    def stretch(self, seconds: float) -> float:
        """A timeout stretched by the present health."""
        return seconds * (self.score + 1)
