"""The events that wait for one flow."""

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
    """One event for one flow, and in the end its answer."""

    event: Event
    workflow: str | None = None  # the name that the caller gave, to be checked
    answer: Verdict | OrchyError | None = None
    flow: CachedFlow | None = None
    unsure: bool = False  # a commit with it may have been made: nobody had the store's answer
    withdrawn: bool = False  # its caller has left

    def note_unsure(self, verdict: Verdict | OrchyError) -> None:
        """The answer to a commit was lost in which it had this verdict."""
        self.unsure = self.unsure or verdict in (Verdict.APPLIED, Verdict.KEPT)

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

    envelopes: deque[Envelope] = attrs.field(factory=deque)
    lock: trio.Lock = attrs.field(factory=trio.Lock)
    users: int = 0


class Mailboxes:
    """Those that somebody uses, by flow."""

    def __init__(self) -> None:
        self._boxes: dict[str, Mailbox] = {}

    def __len__(self) -> int:
        return len(self._boxes)

    def __contains__(self, flow_id: str) -> bool:
        return flow_id in self._boxes

    @contextmanager
    def of(self, flow_id: str) -> Iterator[Mailbox]:
        """The mailbox of a flow; it is there as long as somebody uses it."""
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
        """Use it no more."""
        mailbox.users -= 1
        if not mailbox.users:
            del self._boxes[flow_id]
