"""Log lines that somebody outside can cause: so many in a time, the rest is counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

LINES_MAX = 5
WINDOW_SECONDS = 10.0


class BoundedLog:
    """At most `lines_max` entries in `window_seconds`; the first one after that says how many were left out."""

    def __init__(
        self,
        log: logging.Logger,
        lines_max: int = LINES_MAX,
        window_seconds: float = WINDOW_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._lines_max = lines_max
        self._window_seconds = window_seconds
        self._now = now
        self._window_ends_at = now() + window_seconds
        self._lines = 0
        self._left_out = 0

    def warning(self, message: str, *about: object) -> None:
        """A warning."""
        self._write(logging.WARNING, message, about, None)

    def error(self, message: str, *about: object, error: BaseException) -> None:
        """An error with its traceback."""
        self._write(logging.ERROR, message, about, error)

    def _write(self, level: int, message: str, about: tuple[object, ...], error: BaseException | None) -> None:
        now = self._now()
        if now >= self._window_ends_at:
            self._window_ends_at, self._lines = now + self._window_seconds, 0
        if self._lines >= self._lines_max:
            self._left_out += 1
            return
        self._lines += 1
        if self._left_out:
            message += " (%d entries before this one were left out)"
            about = (*about, self._left_out)
            self._left_out = 0
        self._log.log(level, message, *about, exc_info=error)
