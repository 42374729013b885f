"""A sign of life of what takes long: on a terminal one line that changes, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time

EVERY_SECONDS = 10.0


class Progress:
    """Told of each bit of progress, it says so seldom."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._said = time.monotonic()

    def at(self, done: int) -> None:
        """So much is done."""
        if sys.stderr.isatty():
            end = "\r\x1b[K" if done >= self._total else "\r"
            print(f"  {self._what}: {done:,} of {self._total:,}", end=end, file=sys.stderr, flush=True)
        elif time.monotonic() - self._said >= EVERY_SECONDS:
            self._said = time.monotonic()
            print(f"  {self._what}: {done:,} of {self._total:,}", file=sys.stderr, flush=True)
