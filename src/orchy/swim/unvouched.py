"""Members that were heard of and that nobody vouches for yet: few, not for long, and never in the table of members.

Whoever can send a packet can invent members. They must not take the turns of real ones to be probed, nor their places
in the table, so they wait here. What the application then vouches for is let in; the rest is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import attrs

from orchy.swim.messages import Record, State
from orchy.swim.parameters import UNVOUCHED_MAX, UNVOUCHED_SECONDS


class UnvouchedMembers:
    """Records by who they are said to be. Two that claim one name wait beside each other; the oldest gives way."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Record, tuple[float, int]] = OrderedDict()
        self._second = float("-inf")
        self._came = 0  # in this second

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, record: Record, now: float) -> bool:
        """Let it wait; False: it has been waiting already, or so many came within a second that it is one too many."""
        if now - self._second > 1.0:
            self._second, self._came = now, 0
        self._came += 1
        if self._came > UNVOUCHED_MAX:
            return False
        who = attrs.evolve(record, incarnation=0, state=State.ALIVE)
        since, incarnation = self._waiting.pop(who, (now, -1))
        if now - since > UNVOUCHED_SECONDS:
            since, incarnation = now, -1
        self._waiting[who] = since, max(incarnation, record.incarnation)
        while len(self._waiting) > UNVOUCHED_MAX:
            self._waiting.popitem(last=False)
        return incarnation < 0

    def take(self, vouched: Callable[[Record], bool], now: float) -> list[Record]:
        """Those that somebody vouches for now; they wait no more, and those that have waited too long neither."""
        taken = []
        for who, (since, incarnation) in list(self._waiting.items()):
            record = attrs.evolve(who, incarnation=incarnation)
            if now - since > UNVOUCHED_SECONDS:
                del self._waiting[who]
            elif vouched(record):
                del self._waiting[who]
                taken.append(record)
        return taken
