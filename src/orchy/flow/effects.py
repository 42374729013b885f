"""What a transition wants done: the outputs of `machine.step`. Frozen values; all of them become one commit.

Durations are relative: the store adds its own clock when it commits, so that no node's clock decides
anything durable.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from orchy.flow.definition import JSON
from orchy.flow.events import TimerKind
from orchy.flow.runs import NO_RUN, RunId


class Enqueue(Struct, frozen=True):
    """Put an attempt of a user action where workers find it, parameters resolved."""

    run_id: RunId
    name: str
    attempt: int
    parameters: JSON
    timeout_seconds: float


class SetTimer(Struct, frozen=True):
    """Have `TimerFired(kind, run_id, attempt)` happen `after_seconds` from the commit, never earlier."""

    kind: TimerKind
    run_id: RunId
    attempt: int
    after_seconds: float


class CancelTimer(Struct, frozen=True):
    """Forget a timer; it may not be there. A TIMEOUT takes the LOST timer of its attempt along.

    `fired`: this step handles the timer because it was due. One that can be moved must still be as it was then.
    """

    kind: TimerKind
    run_id: RunId
    attempt: int
    fired: bool = False


class Deferred(Struct, frozen=True):
    """Work that no step does itself: have the runner of `kind` do it over the flow's context, and come back with
    `DeferredDone` or `DeferredFailed`. The DEFERRED timer of its attempt asks again for what a crash has lost."""

    run_id: RunId
    attempt: int
    kind: str
    payload: JSON


class Unpark(Struct, frozen=True):
    """Put back into their queues the attempts that were met there while the flow was paused."""


class RecordType(StrEnum):
    """What a history entry tells. The letters are what the store keeps."""

    STARTED = "S"
    SCHEDULED = "Q"  # put into a queue, or a system action begun
    HANDED_OUT = "H"  # written by the store itself when a worker polls the attempt
    GIVEN_BACK = "B"  # it did not reach the worker; mostly written by the store
    COMPLETED = "C"
    FAILED = "F"  # an attempt failed
    TIMED_OUT = "T"  # an attempt got no result in time
    WORKER_LOST = "W"  # the worker of an attempt was not heard of for a lease
    RETRY = "R"  # another attempt will follow
    LATE = "L"  # a result for an attempt that is over
    EVENT = "E"
    EVENT_KEPT = "K"
    MISSING = "M"  # a path that found nothing
    POSTPONED = "N"  # it starts with the next commit, as this one had evaluated enough
    PAUSED = "P"
    RESUMED = "U"
    QUARANTINED = "Z"  # its timers are set aside: it could not be moved
    RELEASED = "G"
    FLOW_COMPLETED = "D"
    FLOW_FAILED = "X"
    FLOW_CANCELLED = "A"


class Record(Struct, frozen=True):
    """One line of the history; the store adds the time. `run_id` and `attempt` are 0 where there is none."""

    type: RecordType
    run_id: RunId = NO_RUN
    attempt: int = 0
    worker: str = ""
    detail: JSON = None


class End(Struct, frozen=True):
    """The flow is over: start its retention, or (`delete`) remove it at once."""

    delete: bool


Effect: TypeAlias = Enqueue | SetTimer | CancelTimer | Deferred | Unpark | Record | End
