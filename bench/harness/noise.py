"""How busy other processes kept the machine during a measurement; a busy machine makes all figures worse."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import attrs


@attrs.frozen
class Usage:
    """Seconds on the clock, CPU seconds of all cores, and CPU seconds of this process and its children.

    Of the children only those count that have ended, so measure when none is running.
    """

    clock: float
    all_cores: float
    ours: float

    @classmethod
    def now(cls) -> Usage:
        """The usage up to now."""
        ours = 0.0
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
            used = resource.getrusage(who)
            ours += used.ru_utime + used.ru_stime
        return cls(time.monotonic(), _busy_seconds(), ours)

    def others_cores(self) -> float:
        """How many cores other processes have kept busy since then, on average."""
        now = Usage.now()
        others = (now.all_cores - self.all_cores) - (now.ours - self.ours)
        return max(0.0, others / (now.clock - self.clock))


def _busy_seconds() -> float:
    """CPU seconds of all cores since boot, with those that the hypervisor took for other machines."""
    first, *_ = Path("/proc/stat").read_text().splitlines()
    user, nice, system, _idle, _waiting, irq, softirq, steal, *_ = first.split()[1:]
    ticks = sum(map(int, (user, nice, system, irq, softirq, steal)))
    return ticks / os.sysconf("SC_CLK_TCK")
