"""Events that wait for their flow, and the lock under which they are taken in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

from orchy.engine.flow_cache import CachedFlow
from orchy.errors import OrchyError
from orchy.flow.events import Event, NotReceived, TimerFired, TimerKind
from orchy.flow.machine import Verdict
from orchy.store.timers import TimerKey


@attrs.define(eq=False)
class Envelope:
    """One event for one flow, and finally its answer."""

    event: Event
    workflow: str | None = None  # the name that the caller gave, to be checked
    answer: Verdict | OrchyError | None = None
    flow: CachedFlow | None = None
    unsure: bool = False  # an earlier commit may have had it: the store's answer was lost
    withdrawn: bool = False  # the caller was cancelled

    def note_unsure(self, verdict: Verdict | OrchyError) -> None:
        """Note that the answer was lost to a commit in which the event had this verdict."""
        self.unsure = self.unsure or verdict in (Verdict.APPLIED, Verdict.KEPT)

    def timer(self, flow_id: str) -> str | None:
        """The store's key of the timer that the event is about, if any."""
        match self.event:
            case TimerFired(kind, action_id, attempt):
                return str(TimerKey(kind, action_id, attempt, flow_id))
            case NotReceived(action_id, attempt):
                return str(TimerKey(TimerKind.LOST, action_id, attempt, flow_id))
        return None


@attrs.define(eq=False)
class Mailbox:
    """The waiting events of one flow. The holder of the lock takes them in."""

    envelopes: deque[Envelope] = attrs.field(factory=deque)
    lock: trio.Lock = attrs.field(factory=trio.Lock)
    users: int = 0


class Mailboxes:
    """The mailboxes in use, by flow."""

    def __init__(self) -> None:
        self._boxes: dict[str, Mailbox] = {}

    def __len__(self) -> int:
        return len(self._boxes)

    def __contains__(self, flow_id: str) -> bool:
        return flow_id in self._boxes

    @contextmanager
    def of(self, flow_id: str) -> Iterator[Mailbox]:
        """The mailbox of a flow, which exists as long as it is in use."""
        mailbox = self.enter(flow_id)
        try:
            yield mailbox
        finally:
            self.leave(flow_id, mailbox)

    def enter(self, flow_id: str) -> Mailbox:
        """Use a flow's mailbox until `leave`."""
        mailbox = self._boxes.setdefault(flow_id, Mailbox())
        mailbox.users += 1
        return mailbox

    def leave(self, flow_id: str, mailbox: Mailbox) -> None:
        """Stop using a flow's mailbox."""
        mailbox.users -= 1
        if not mailbox.users:
            del self._boxes[flow_id]
