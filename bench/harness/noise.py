"""How much of the machine others used while something was measured: what makes a figure worth less than it seems."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import attrs


@attrs.frozen
class Usage:
    """Seconds since some beginning: on the clock, of all cores' work, and of our own processes' (those that ended)."""

    clock: float
    all_cores: float
    ours: float

    @classmethod
    def now(cls) -> Usage:
        """Of processes of ours only those count that have ended, so it is to be asked when none runs."""
        ours = 0.0
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
            used = resource.getrusage(who)
            ours += used.ru_utime + used.ru_stime
        return cls(time.monotonic(), _busy_seconds(), ours)

    def others_cores(self) -> float:
        """How many cores others kept busy since then, on average."""
        now = Usage.now()
        others = (now.all_cores - self.all_cores) - (now.ours - self.ours)
        return max(0.0, others / (now.clock - self.clock))


def _busy_seconds() -> float:
    """What all cores have worked since the machine's start; time that was given to other machines is among it."""
    first, *_ = Path("/proc/stat").read_text().splitlines()
    user, nice, system, _idle, _waiting, irq, softirq, steal, *_ = first.split()[1:]
    ticks = sum(map(int, (user, nice, system, irq, softirq, steal)))
    return ticks / os.sysconf("SC_CLK_TCK")
