"""A flow in the middle of a step: its changing parts, the effects so far, and the operations on both.

`machine` decides what happens; this module carries it out. A draft lives for one step and never leaves it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TypeVar, assert_never

import attrs
from msgspec import Struct

from orchy.flow import effects as fx
from orchy.flow import retry
from orchy.flow.budget import Meter, OverBudget
from orchy.flow.definition import DEFAULT_OUTCOME, DEFAULT_TIMEOUT_SECONDS, JSON, ActionDefinition, ActionType, OnEnd
from orchy.flow.effects import Effect, Record, RecordType
from orchy.flow.events import EventReceived, TimerKind
from orchy.flow.execution import Finished, Flow, KeptEvent, Phase, Running, State
from orchy.flow.expressions.templates import FlowContext
from orchy.flow.graph import Graph
from orchy.flow.limits import DEFAULT_LIMITS, Limits, shortened
from orchy.flow.runs import NO_RUN, RunId, run_of
from orchy.flow.system import Await, Defer, Fail, Finish, Sleep, SystemAction

#: Deferred work that a crash has lost is started again after this long.
DEFERRED_AGAIN_SECONDS = 30.0

#: Names of a flow's fields in the store, see `codec`.
KEPT_EVENT_PREFIX = "k:"
RECENT_PREFIX = "d:"
LATE_PREFIX = "l:"
OLD_EVENTS_FIELD = "e"

#: The timer that an action may have in each phase. A TIMEOUT may come with a LOST timer, which is cancelled with it.
PHASE_TIMERS = {
    Phase.QUEUED: TimerKind.TIMEOUT,
    Phase.RETRY: TimerKind.RETRY,
    Phase.DELAY: TimerKind.DELAY,
    Phase.WAIT: TimerKind.WAIT,
    Phase.DEFERRED: TimerKind.DEFERRED,
}
_END_RECORDS = {
    State.COMPLETED: RecordType.FLOW_COMPLETED,
    State.FAILED: RecordType.FLOW_FAILED,
    State.CANCELLED: RecordType.FLOW_CANCELLED,
}


_K = TypeVar("_K")
_V = TypeVar("_V")


@attrs.frozen
class Rules:
    """What a step needs besides the flow: the kinds of system actions, and the action definitions of workers."""

    system_actions: Mapping[str, SystemAction]
    action_definitions: Mapping[str, ActionDefinition]
    default_timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    limits: Limits = DEFAULT_LIMITS

    def definition_of(self, name: str) -> ActionDefinition:
        """What a worker registered for a user action, or the defaults."""
        return self.action_definitions.get(name) or ActionDefinition(name)

    def timeout_seconds(self, name: str) -> float:
        """How long an attempt of a user action may take."""
        return self.definition_of(name).timeout_seconds or self.default_timeout_seconds


_NO_FIELDS: frozenset[str] = frozenset()


class Changes(Struct, frozen=True):
    """Which parts of a flow a step touched, so that a commit writes only those.

    `fields` has the rarely touched ones by their names in the store: kept events, recent event ids, late results.
    """

    running: frozenset[RunId] = frozenset()
    joins: frozenset[int] = frozenset()
    finished: frozenset[RunId] = frozenset()
    failed: frozenset[RunId] = frozenset()
    fields: frozenset[str] = frozenset()

    def __or__(self, other: Changes) -> Changes:
        return Changes(
            self.running | other.running,
            self.joins | other.joins,
            self.finished | other.finished,
            self.failed | other.failed,
            self.fields | other.fields if other.fields else self.fields,
        )


class Draft:
    """One flow in the middle of one step.

    Its parts are copies. With `consume` they are the flow's own dicts, as the caller will not use that flow again.
    """

    def __init__(
        self, graph: Graph, flow: Flow, rules: Rules, *, consume: bool = False, meter: Meter | None = None
    ) -> None:
        self.graph = graph
        self.before = flow
        self.rules = rules
        self.state = flow.state
        self.error = flow.error
        part = _reused if consume else dict
        self.running = part(flow.running)
        self.joins = part(flow.joins)
        self.finished = part(flow.finished)
        self.failed = part(flow.failed)
        self.phases = part(flow.phases)
        self.kept_events = flow.kept_events
        self.recent_events = flow.recent_events
        self.late = flow.late
        self.context = FlowContext(flow.input, self.finished, meter)
        self.effects: list[Effect] = []
        self.touched_running: set[RunId] = set()
        self.touched_joins: set[int] = set()
        self.touched_finished: set[RunId] = set()
        self.touched_failed: set[RunId] = set()
        self.touched_fields: set[str] = set()
        if flow.old_events:
            self.touched_fields.update((OLD_EVENTS_FIELD, *event_fields(flow)))
        self._to_start: deque[int] = deque()

    # What happens to an action.

    def reach(self, action_id: int) -> None:
        """Mark an action as reached: the next `start_reached` starts it."""
        self._to_start.append(action_id)

    def complete(
        self, run_id: RunId, attempt: int, output: JSON, outcome: str = DEFAULT_OUTCOME, worker: str = ""
    ) -> None:
        """Finish an action with its result, and take the edges of `outcome`."""
        self.leave(run_id)
        self.finished[run_id] = Finished(attempt, output)
        self.touched_finished.add(run_id)
        self.record(RecordType.COMPLETED, run_id, attempt, worker, None if outcome == DEFAULT_OUTCOME else outcome)
        self.settle(run_id, outcome)

    def settle(self, run_id: RunId, outcome: str) -> None:
        """Take the edges of `outcome`; the others are dead, and so is whatever only they lead to."""
        reached, joins = self.graph.settle(self.joins, self.graph.action_of(run_id).id, outcome)
        for joined, join in joins.items():
            if join is None:
                self.joins.pop(joined, None)
            else:
                self.joins[joined] = join
        self.touched_joins.update(joins)
        self._to_start.extend(reached)

    def start_reached(self) -> None:
        """Start every action that was reached, including those reached by actions that finish at once."""
        while self._to_start and not self.state.over:
            self.start(run_of(self._to_start.popleft()), attempt=1)
        if not self.running and not self.state.over:
            self.end(State.COMPLETED)

    def start(self, run_id: RunId, attempt: int) -> None:
        """Begin an attempt; hold it while the flow is paused; postpone it if this commit's budget is exhausted."""
        if self.state is State.PAUSED:
            self.enter(run_id, Running(attempt, Phase.HELD))
            return
        if self.context.meter.exhausted:
            self.record(RecordType.POSTPONED, run_id, attempt)
            self.enter(run_id, Running(attempt, Phase.RETRY))
            self.effects.append(fx.SetTimer(TimerKind.RETRY, run_id, attempt, 0))
            return
        action = self.graph.action_of(run_id)
        if action.type is ActionType.USER:
            self.enqueue(run_id, attempt)
            return
        answer = self.rules.system_actions[action.name].start(action, self.context)
        match answer:
            case Finish(outcome, output, missing):
                self.note_missing(run_id, attempt, missing)
                self.complete(run_id, attempt, output, outcome)
            case Fail(message):
                self.fail_flow(run_id, attempt, message)
            case Sleep(seconds):
                self.record(RecordType.SCHEDULED, run_id, attempt)
                self.enter(run_id, Running(attempt, Phase.DELAY))
                self.effects.append(fx.SetTimer(TimerKind.DELAY, run_id, attempt, seconds))
            case Await(event, timeout_seconds):
                self.wait(run_id, attempt, event, timeout_seconds)
            case Defer(kind, payload):
                self.record(RecordType.SCHEDULED, run_id, attempt)
                self.defer(run_id, attempt, kind, payload)
            case never:
                assert_never(never)

    def enqueue(self, run_id: RunId, attempt: int) -> None:
        """Queue an attempt for workers, with its parameters resolved now."""
        name = self.graph.action_of(run_id).name
        try:
            parameters, missing = self.graph.parameters(run_id).resolve(self.context)
        except OverBudget as over:
            self.fail_flow(run_id, attempt, f"its parameters can't be made: {over}")
            return
        self.note_missing(run_id, attempt, missing)
        self.record(RecordType.SCHEDULED, run_id, attempt)
        self.enter(run_id, Running(attempt, Phase.QUEUED))
        self.effects.append(fx.Enqueue(run_id, name, attempt, parameters, self.rules.timeout_seconds(name)))

    def note_missing(self, run_id: RunId, attempt: int, missing: tuple[str, ...]) -> None:
        """Record the paths that found nothing in the history."""
        if missing:
            self.record(RecordType.MISSING, run_id, attempt, detail=list(missing))

    def wait(self, run_id: RunId, attempt: int, event: str, timeout_seconds: float | None) -> None:
        """Take the oldest kept event of that name, or wait for one."""
        for index, kept in enumerate(self.kept_events):
            if kept.event == event:
                self.kept_events = (*self.kept_events[:index], *self.kept_events[index + 1 :])
                self.touched_fields.add(f"{KEPT_EVENT_PREFIX}{kept.number}")
                self.complete(run_id, attempt, kept.data, event)
                return
        self.record(RecordType.SCHEDULED, run_id, attempt)
        self.enter(run_id, Running(attempt, Phase.WAIT, event))
        if timeout_seconds is not None:
            self.effects.append(fx.SetTimer(TimerKind.WAIT, run_id, attempt, timeout_seconds))

    def defer(self, run_id: RunId, attempt: int, kind: str, payload: JSON) -> None:
        """Have a runner do the work; the timer requests it again if a crash loses it."""
        self.enter(run_id, Running(attempt, Phase.DEFERRED))
        self.effects.append(fx.SetTimer(TimerKind.DEFERRED, run_id, attempt, DEFERRED_AGAIN_SECONDS))
        self.effects.append(fx.Deferred(run_id, attempt, kind, payload))

    def note_failed(self, run_id: RunId, attempt: int) -> None:
        """Remember the attempt that a worker reported as failed, to recognize the same report if it is repeated."""
        self.failed[run_id] = attempt
        self.touched_failed.add(run_id)

    def note_late(self, run_id: RunId, attempt: int) -> None:
        """Remember that an attempt's result came too late, so that the history has it once."""
        self.late = {**self.late, run_id: (*self.late.get(run_id, ()), attempt)}
        self.touched_fields.add(f"{LATE_PREFIX}{run_id}")

    def keep_event(self, event: EventReceived, text: bytes) -> None:
        """Keep an event for a later wait; `text` is its data as JSON."""
        number = self.kept_events[-1].number + 1 if self.kept_events else 1
        self.kept_events = (*self.kept_events, KeptEvent(number, event.event, event.event_id, text))
        self.touched_fields.add(f"{KEPT_EVENT_PREFIX}{number}")

    def remember_event(self, event_id: str, *, taken: bool) -> None:
        """Remember an event's id and answer, to recognize it if it is sent again."""
        self.recent_events, changed = self.recent_events.adding(event_id, taken)
        self.touched_fields.update(f"{RECENT_PREFIX}{number}" for number in changed)

    def end_attempt(self, run_id: RunId, running: Running, error: str) -> None:
        """An attempt has failed: schedule the next one, or fail the flow if none is left."""
        definition = self.rules.definition_of(self.graph.action_of(run_id).name)
        after_seconds = retry.seconds_before_next(definition, running.attempt)
        if after_seconds is None:
            self.fail_flow(run_id, running.attempt, error)
            return
        attempt = running.attempt + 1
        self.record(RecordType.RETRY, run_id, attempt, detail=after_seconds)
        if after_seconds > 0:
            self.enter(run_id, Running(attempt, Phase.RETRY))
            self.effects.append(fx.SetTimer(TimerKind.RETRY, run_id, attempt, after_seconds))
        else:
            self.start(run_id, attempt)

    def fail_flow(self, run_id: RunId, attempt: int, error: str) -> None:
        """Fail the flow; its error names the action and the reason."""
        action = self.graph.action_of(run_id)
        self.error = f"action {action.id} ({action.name}) failed on attempt {attempt}: {shortened(error)}"
        self.end(State.FAILED)

    def end(self, state: State) -> None:
        """End the flow: nothing runs any more, and no timer is left."""
        for run_id in list(self.running):
            self.leave(run_id)
        self.touched_joins.update(self.joins)
        self.joins.clear()
        self._to_start.clear()
        self.state = state
        self.record(_END_RECORDS[state], detail=self.error)
        workflow = self.graph.workflow
        policies = {State.COMPLETED: workflow.on_success, State.FAILED: workflow.on_failure}
        self.effects.append(fx.End(delete=policies.get(state) is OnEnd.DELETE))

    # Bookkeeping.

    def enter(self, run_id: RunId, running: Running) -> None:
        """Move an action to a phase, out of the one that it was in."""
        self.leave(run_id)
        self.running[run_id] = running
        self.phases[running.phase] = self.phases.get(running.phase, 0) + 1
        self.touched_running.add(run_id)

    def leave(self, run_id: RunId) -> None:
        """Take an action out of its phase and cancel the phase's timer."""
        before = self.running.pop(run_id, None)
        if before is not None:
            self.phases[before.phase] -= 1
            self.touched_running.add(run_id)
            kind = PHASE_TIMERS.get(before.phase)
            if kind is not None:
                self.effects.append(fx.CancelTimer(kind, run_id, before.attempt))

    def record(
        self, kind: RecordType, run_id: RunId = NO_RUN, attempt: int = 0, worker: str = "", detail: JSON = None
    ) -> None:
        """Add an entry to the history."""
        self.effects.append(Record(kind, run_id, attempt, worker, detail))

    def flow(self) -> Flow:
        """The flow as it is now."""
        state = self.state
        if not state.over and state is not State.PAUSED:
            state = _state_of(self.phases)
        return Flow(
            id=self.before.id,
            workflow=self.before.workflow,
            workflow_version=self.before.workflow_version,
            input=self.before.input,
            state=state,
            running=self.running,
            joins=self.joins,
            finished=self.finished,
            failed=self.failed,
            phases=self.phases,
            kept_events=self.kept_events,
            recent_events=self.recent_events,
            late=self.late,
            error=self.error,
        )

    def changes(self) -> Changes:
        """What was touched so far."""
        return Changes(
            frozenset(self.touched_running),
            frozenset(self.touched_joins),
            frozenset(self.touched_finished),
            frozenset(self.touched_failed),
            frozenset(self.touched_fields) if self.touched_fields else _NO_FIELDS,
        )


def event_fields(flow: Flow) -> list[str]:
    """The names of the fields of a flow's kept events and recent ids."""
    kept = [f"{KEPT_EVENT_PREFIX}{event.number}" for event in flow.kept_events]
    return [*kept, *(f"{RECENT_PREFIX}{number}" for number in flow.recent_events.numbers())]


def _reused(part: Mapping[_K, _V]) -> dict[_K, _V]:
    assert isinstance(part, dict), "a previous step made it"
    return part


def _state_of(phases: Mapping[Phase, int]) -> State:
    """The state of a flow that is neither over nor paused."""
    if any(phases.get(phase) for phase in (Phase.QUEUED, Phase.RETRY, Phase.DEFERRED, Phase.HELD)):
        return State.RUNNING
    return State.WAITING_EVENT if phases.get(Phase.WAIT) else State.WAITING_DELAY
