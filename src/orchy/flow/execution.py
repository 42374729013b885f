"""What an execution (a flow) is between two transitions. Frozen; only `machine` makes the next one.

`running` holds what was started and has not ended, `joins` the actions that some but not all of whose
incoming edges are settled, `finished` what has ended with an output. An action that is in none of them was
not reached yet, or is dead. A flow that is over has nothing running.
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
    """Where a flow stands, as users see it."""

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
    """What a running action is waiting for. The letters are what the store keeps."""

    QUEUED = "q"  # a worker: in a queue, or handed out
    RETRY = "r"  # the time before its next attempt
    DELAY = "d"  # the end of its delay
    WAIT = "w"  # its event, or its timeout
    DEFERRED = "e"  # the answer of the javascript engine
    HELD = "h"  # the flow's resumption: it was reached while the flow was paused


class Running(Struct, frozen=True):
    """An action that was started and has not ended. `attempt` counts from 1; `event` is what a WAIT waits for."""

    attempt: int
    phase: Phase
    event: str | None = None


class Join(Struct, frozen=True):
    """How many of an action's incoming edges are settled: `taken` ones and `dead` ones."""

    taken: int = 0
    dead: int = 0


class Finished(Struct, frozen=True):
    """The one result that counted for an action, and the attempt that brought it."""

    attempt: int
    output: JSON


class KeptEvent(Struct, frozen=True):
    """An event that came before the wait that will take it. `number` rises; `text` is its data as JSON."""

    number: int
    event: str
    event_id: str
    text: bytes

    @property
    def data(self) -> JSON:
        """What came with it."""
        data: JSON = msgspec.json.decode(self.text)
        return data

    @property
    def size_bytes(self) -> int:
        """About what it takes in the store."""
        return len(self.text) + len(self.event) + len(self.event_id)


class Flow(Struct, frozen=True):
    """One execution of one version of a workflow.

    `failed` holds, by action, the last attempt that a worker said had failed, `late` those of which a result came too
    late; `phases` counts `running` by phase. `recent_events` are the last events taken in, so that one that is sent
    again counts once. `error` is a sentence, there when the flow FAILED. `old_events`: the store has its events in one
    field, as they were kept once; the next commit takes them apart.
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
