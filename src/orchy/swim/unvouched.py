"""Members that were heard of and that the application does not vouch for yet: bounded in number and time.

Anyone who can send a packet can invent members. Invented ones must not take part in probing, nor fill the table of
members, so all wait here. Those that the application then vouches for are admitted; the rest are forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import attrs

from orchy.swim.messages import Record, State
from orchy.swim.parameters import UNVOUCHED_MAX, UNVOUCHED_SECONDS


class UnvouchedMembers:
    """Waiting records. Two that claim one name wait beside each other; of too many, the oldest is dropped."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Record, tuple[float, int]] = OrderedDict()
        self._second = float("-inf")
        self._came = 0  # in this second

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, record: Record, now: float) -> bool:
        """Let a record wait; False if it was waiting already, or over the limit of new ones in a second."""
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
        """Remove and return those that are vouched for by now; those that have waited too long are removed as well."""
        taken = []
        for who, (since, incarnation) in list(self._waiting.items()):
            record = attrs.evolve(who, incarnation=incarnation)
            if now - since > UNVOUCHED_SECONDS:
                del self._waiting[who]
            elif vouched(record):
                del self._waiting[who]
                taken.append(record)
        return taken
