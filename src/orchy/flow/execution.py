"""The state of a flow between two transitions. Frozen; only `machine` makes the next one.

`running` holds the actions that have started and not ended, `joins` those with some but not all incoming edges settled,
`finished` those that have ended with an output. An action in none of them has not been reached, or is dead. Nothing is
running in a flow that is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec
from msgspec import Struct, field

from orchy.flow.definition import JSON
from orchy.flow.recent import RecentEvents
from orchy.flow.runs import RunId


class State(StrEnum):
    """The state of a flow, as users see it."""

    RUNNING = "RUNNING"
    WAITING_DELAY = "WAITING_DELAY"
    WAITING_EVENT = "WAITING_EVENT"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def over(self) -> bool:
        """Whether nothing can happen to the flow any more."""
        return self in OVER


OVER = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


class Phase(StrEnum):
    """What a running action is waiting for. The store keeps the letters."""

    QUEUED = "q"  # a worker: in a queue, or handed out
    RETRY = "r"  # the time before its next attempt
    DELAY = "d"  # the end of its delay
    WAIT = "w"  # its event, or its timeout
    DEFERRED = "e"  # the runner of its deferred work
    HELD = "h"  # the flow to be resumed: it was reached during a pause


class Running(Struct, frozen=True):
    """An action that has started and not ended. `attempt` counts from 1; `event` is what a WAIT waits for."""

    attempt: int
    phase: Phase
    event: str | None = None


class Join(Struct, frozen=True):
    """How many of an action's incoming edges are settled, as taken and as dead."""

    taken: int = 0
    dead: int = 0


class Finished(Struct, frozen=True):
    """The result of an action, and the attempt that produced it."""

    attempt: int
    output: JSON


class KeptEvent(Struct, frozen=True):
    """An event that arrived before a wait for it. `number` only increases; `text` is its data as JSON."""

    number: int
    event: str
    event_id: str
    text: bytes

    @property
    def data(self) -> JSON:
        """The data, decoded."""
        data: JSON = msgspec.json.decode(self.text)
        return data

    @property
    def size_bytes(self) -> int:
        """Its approximate size in the store."""
        return len(self.text) + len(self.event) + len(self.event_id)


class Flow(Struct, frozen=True):
    """One execution of one version of a workflow.

    `failed` has the last attempt of each action that a worker reported as failed, `late` the attempts whose results
    came too late; `phases` counts `running` by phase. `recent_events` are the ids of the last events, so that an event
    that is sent twice counts once. `error` is a sentence, set when the flow FAILED. `old_events`: the store has the
    events in one field, the old format; the next commit converts them.
    """

    id: str
    workflow: str
    workflow_version: int
    input: JSON
    state: State = State.RUNNING
    running: Mapping[RunId, Running] = field(default_factory=dict)
    joins: Mapping[int, Join] = field(default_factory=dict)
    finished: Mapping[RunId, Finished] = field(default_factory=dict)
    failed: Mapping[RunId, int] = field(default_factory=dict)
    phases: Mapping[Phase, int] = field(default_factory=dict)
    kept_events: tuple[KeptEvent, ...] = ()
    recent_events: RecentEvents = RecentEvents()
    late: Mapping[RunId, tuple[int, ...]] = field(default_factory=dict)
    old_events: bool = False
    error: str | None = None
