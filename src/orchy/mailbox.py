"""The events that wait for one flow."""

from __future__ import annotations

from collections import deque

import attrs
import trio

from orchy.errors import OrchyError
from orchy.flow.events import Event, NotReceived, TimerFired, TimerKind
from orchy.flow.machine import Verdict
from orchy.flowcache import CachedFlow
from orchy.store.base import TimerKey


@attrs.define(eq=False)
class Letter:
    """One event for one flow, and in the end its answer."""

    event: Event
    workflow: str | None = None  # the name that the caller gave, to be checked
    answer: Verdict | OrchyError | None = None
    flow: CachedFlow | None = None

    def timer(self, flow_id: str) -> str | None:
        """The key of the timer that this is about, as the store has it."""
        match self.event:
            case TimerFired(kind, action_id, attempt):
                return str(TimerKey(kind, action_id, attempt, flow_id))
            case NotReceived(action_id, attempt):
                return str(TimerKey(TimerKind.LOST, action_id, attempt, flow_id))
        return None


@attrs.define(eq=False)
class Mailbox:
    """The events of one flow that wait, and the lock whose holder takes them in."""

    letters: deque[Letter] = attrs.field(factory=deque)
    lock: trio.Lock = attrs.field(factory=trio.Lock)
    users: int = 0
