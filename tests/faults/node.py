"""A node that can be broken from outside: `python -m tests.faults.node CUT_FILE CLOCK_FILE FLAGS...`.

CUT_FILE is `cuttable_node`'s. CLOCK_FILE holds the seconds by which this process's wall clock is off, read again every
CLOCK_LOOK_SECONDS. Only `time.time` and `time.time_ns` go wrong: a monotonic clock does not jump on a real machine
either.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

CLOCK_LOOK_SECONDS = 0.2


class WrongClock:
    """`time.time` with an offset that a file holds."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._time, self._time_ns, self._monotonic = time.time, time.time_ns, time.monotonic
        self._offset_seconds = 0.0
        self._look_at = 0.0

    def offset(self) -> float:
        """The offset in the file, in seconds."""
        if self._monotonic() >= self._look_at:
            self._look_at = self._monotonic() + CLOCK_LOOK_SECONDS
            self._offset_seconds = float(self._file.read_text() or 0) if self._file.exists() else 0.0
        return self._offset_seconds

    def time(self) -> float:
        return self._time() + self.offset()

    def time_ns(self) -> int:
        return self._time_ns() + round(self.offset() * 1e9)


if __name__ == "__main__":
    clock = WrongClock(Path(sys.argv[2]))
    time.time, time.time_ns = clock.time, clock.time_ns
    cuttable = Path(__file__).parents[1] / "integration" / "cuttable_node.py"
    sys.argv[:3] = [str(cuttable), sys.argv[1]]
    runpy.run_path(str(cuttable), run_name="__main__")
