"""What can happen to a flow: the inputs of `machine.step`. Frozen values.

`attempt` is the attempt that an input is about; the machine ignores inputs about any attempt but the running one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from orchy.flow.definition import JSON
from orchy.flow.runs import RunId


class TimerKind(StrEnum):
    """What a timer is for. The store keeps the letters."""

    DELAY = "d"
    WAIT = "w"
    RETRY = "r"
    TIMEOUT = "t"  # of an attempt; set by the store when the attempt is handed out
    LOST = "l"  # of the same attempt: its worker's lease has run out; cancelled with the TIMEOUT
    DEFERRED = "e"  # restarts deferred work that a crash has lost


class Started(Struct, frozen=True):
    """The flow was accepted: start its root action."""


class Completed(Struct, frozen=True):
    """A worker's successful result."""

    run_id: RunId
    attempt: int
    output: JSON
    worker: str = ""


class Failed(Struct, frozen=True):
    """A worker's failure; `error` is its message."""

    run_id: RunId
    attempt: int
    error: str
    worker: str = ""


class TimerFired(Struct, frozen=True):
    """A timer is due, set by an effect or by the store. `worker` is the lost worker, for a LOST timer."""

    kind: TimerKind
    run_id: RunId
    attempt: int
    worker: str = ""


class NotReceived(Struct, frozen=True):
    """The worker to which an attempt was handed out never received it, as turned out when its LOST timer was due."""

    run_id: RunId
    attempt: int


class DeferredDone(Struct, frozen=True):
    """The result of deferred work; for a script, the keys that it added or changed."""

    run_id: RunId
    attempt: int
    output: JSON


class DeferredFailed(Struct, frozen=True):
    """Deferred work has failed; `message` says why, for a script in its own words."""

    run_id: RunId
    attempt: int
    message: str


class Undeliverable(Struct, frozen=True):
    """An attempt's parameters can't be encoded for workers; `message` says why."""

    run_id: RunId
    attempt: int
    message: str


class Overgrown(Struct, frozen=True):
    """An action's output would take the flow over its size limit; `message` says by how much."""

    run_id: RunId
    attempt: int
    message: str


class EventReceived(Struct, frozen=True):
    """An event from outside. `event_id` is unique to the delivery, unless the client chose it."""

    event: str
    data: JSON
    event_id: str


class Pause(Struct, frozen=True):
    """Let running actions finish; start nothing new."""


class Resume(Struct, frozen=True):
    """Continue after a pause."""


class Cancel(Struct, frozen=True):
    """End the flow now."""


Event: TypeAlias = (
    Started
    | Completed
    | Failed
    | TimerFired
    | NotReceived
    | DeferredDone
    | DeferredFailed
    | Undeliverable
    | Overgrown
    | EventReceived
    | Pause
    | Resume
    | Cancel
)
