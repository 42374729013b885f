"""A token bucket: a rate limit with room for bursts. Pure; the clock is an argument."""

from __future__ import annotations


class TokenBucket:
    """Allows `burst` calls at once and `per_second` on average. It starts full."""

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._tokens = burst
        self._filled_at: float | None = None

    def take(self, now: float) -> bool:
        """Take a token; False: there is none. `now` is in seconds and never goes back."""
        if self._filled_at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
