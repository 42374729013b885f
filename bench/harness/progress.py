"""Progress of what takes long: one line that is overwritten on a terminal, elsewhere a line each ten seconds."""

from __future__ import annotations

import sys
import time

EVERY_SECONDS = 10.0


class Progress:
    """May be called often; prints at most each EVERY_SECONDS unless on a terminal."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._printed_at = time.monotonic()

    def at(self, done: int) -> None:
        """Report that `done` of the total are done."""
        if sys.stderr.isatty():
            end = "\r\x1b[K" if done >= self._total else "\r"
            print(f"  {self._what}: {done:,} of {self._total:,}", end=end, file=sys.stderr, flush=True)
        elif time.monotonic() - self._printed_at >= EVERY_SECONDS:
            self._printed_at = time.monotonic()
            print(f"  {self._what}: {done:,} of {self._total:,}", file=sys.stderr, flush=True)
