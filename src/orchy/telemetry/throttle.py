"""Warnings about something that may happen again and again: each kind is logged at once, and then now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio


class ThrottledWarnings:
    """Logs one warning of each kind per `again_seconds` and drops the others.

    Of at most `kinds_max` kinds it remembers when they were logged; with more it forgets all of them.
    """

    def __init__(
        self,
        log: logging.Logger,
        again_seconds: float = 60.0,
        kinds_max: int = 100,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._log = log
        self._again_seconds = again_seconds
        self._kinds_max = kinds_max
        self._clock = clock
        self._logged_at: dict[str, float] = {}

    def warn(self, kind: str, message: str, *args: object) -> None:
        """Log `message % args`, unless one of its kind was logged lately."""
        now = self._clock()
        if now - self._logged_at.get(kind, float("-inf")) < self._again_seconds:
            return
        if len(self._logged_at) >= self._kinds_max:
            self._logged_at.clear()
        self._logged_at[kind] = now
        self._log.warning(message, *args, stacklevel=2)
