"""The outputs of `machine.step`: what a step wants done. Frozen values; all effects of a transition make one commit.

Durations are relative: the store adds its own clock when it commits, so that nothing durable depends on a node's clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from orchy.flow.definition import JSON
from orchy.flow.events import TimerKind
from orchy.flow.runs import NO_RUN, RunId


class Enqueue(Struct, frozen=True):
    """Queue an attempt of a user action for workers, with its parameters resolved."""

    run_id: RunId
    name: str
    attempt: int
    parameters: JSON
    timeout_seconds: float


class SetTimer(Struct, frozen=True):
    """Fire `TimerFired(kind, run_id, attempt)` no earlier than `after_seconds` after the commit."""

    kind: TimerKind
    run_id: RunId
    attempt: int
    after_seconds: float


class CancelTimer(Struct, frozen=True):
    """Cancel a timer, if it is set. Cancelling a TIMEOUT also cancels the LOST timer of its attempt.

    `fired`: this step handles the timer because it was due. If its kind can be moved, the commit requires that it has
    not been moved since.
    """

    kind: TimerKind
    run_id: RunId
    attempt: int
    fired: bool = False


class Deferred(Struct, frozen=True):
    """Work outside the step: the runner of `kind` does it over the flow's context and comes back with `DeferredDone`
    or `DeferredFailed`. If a crash loses it, the DEFERRED timer of its attempt requests it again."""

    run_id: RunId
    attempt: int
    kind: str
    payload: JSON


class Unpark(Struct, frozen=True):
    """Return attempts to their queues that were set aside there while the flow was paused."""


class RecordType(StrEnum):
    """The kind of a history entry. The store keeps the letters."""

    STARTED = "S"
    SCHEDULED = "Q"  # queued for workers, or a system action has begun
    HANDED_OUT = "H"  # written by the store when a worker gets the attempt
    GIVEN_BACK = "B"  # the attempt did not reach its worker; mostly written by the store
    COMPLETED = "C"
    FAILED = "F"  # an attempt failed
    TIMED_OUT = "T"  # an attempt got no result in time
    WORKER_LOST = "W"  # the lease of an attempt's worker ran out
    RETRY = "R"  # another attempt will follow
    LATE = "L"  # a result for an attempt that is over
    EVENT = "E"
    EVENT_KEPT = "K"
    MISSING = "M"  # a path that found nothing
    POSTPONED = "N"  # starts with the next commit, as this one's budget is exhausted
    PAUSED = "P"
    RESUMED = "U"
    QUARANTINED = "Z"  # moving the flow failed too often: its timers are set aside
    RELEASED = "G"
    FLOW_COMPLETED = "D"
    FLOW_FAILED = "X"
    FLOW_CANCELLED = "A"


class Record(Struct, frozen=True):
    """One history entry; the store adds the time. `run_id` and `attempt` are 0 where they do not apply."""

    type: RecordType
    run_id: RunId = NO_RUN
    attempt: int = 0
    worker: str = ""
    detail: JSON = None


class End(Struct, frozen=True):
    """The flow is over: start its retention, or (`delete`) remove it at once."""

    delete: bool


Effect: TypeAlias = Enqueue | SetTimer | CancelTimer | Deferred | Unpark | Record | End
