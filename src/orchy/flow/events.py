"""What can happen to a flow: the inputs of `machine.step`. Frozen values.

`attempt` says which attempt of an action an input is about; the machine drops what is about another one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from orchy.flow.definition import JSON
from orchy.flow.runs import RunId


class TimerKind(StrEnum):
    """What a timer is for. The letters are what the store keeps."""

    DELAY = "d"
    WAIT = "w"
    RETRY = "r"
    TIMEOUT = "t"  # of an attempt; set by the store when the attempt is handed out
    LOST = "l"  # of the same attempt: its worker has not been heard of for a lease; it goes with the TIMEOUT
    DEFERRED = "e"  # brings an evaluation back that a crash cut off


class Started(Struct, frozen=True):
    """The flow was accepted: run its root."""


class Completed(Struct, frozen=True):
    """A worker's successful result."""

    run_id: RunId
    attempt: int
    output: JSON
    worker: str = ""


class Failed(Struct, frozen=True):
    """A worker's failure; `error` is its text."""

    run_id: RunId
    attempt: int
    error: str
    worker: str = ""


class TimerFired(Struct, frozen=True):
    """A timer that some effect or the store had set is due. `worker` is who was lost, for a LOST one."""

    kind: TimerKind
    run_id: RunId
    attempt: int
    worker: str = ""


class NotReceived(Struct, frozen=True):
    """The worker to which an attempt was handed out has never got it; found out when its LOST timer was due."""

    run_id: RunId
    attempt: int


class DeferredDone(Struct, frozen=True):
    """What a runner made of deferred work; of a script, the keys that it added or changed."""

    run_id: RunId
    attempt: int
    output: JSON


class DeferredFailed(Struct, frozen=True):
    """Deferred work that came to nothing; `message` says why, of a script in its own words."""

    run_id: RunId
    attempt: int
    message: str


class Undeliverable(Struct, frozen=True):
    """An attempt whose parameters can't be put into the form that workers read; `message` says why."""

    run_id: RunId
    attempt: int
    message: str


class Overgrown(Struct, frozen=True):
    """With an action's output the flow would be larger than it may be; `message` says how large."""

    run_id: RunId
    attempt: int
    message: str


class EventReceived(Struct, frozen=True):
    """An event from outside. `event_id` is unique to the delivery, unless the client gave one of its own."""

    event: str
    data: JSON
    event_id: str


class Pause(Struct, frozen=True):
    """Let what runs end; start nothing new."""


class Resume(Struct, frozen=True):
    """Go on from where Pause stopped it."""


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
