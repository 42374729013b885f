"""The flow machine: `step(graph, flow, event, rules) -> Step` decides what a flow does next. Pure.

`ACTION_LIFE` is the life of an action, one row for each trigger in each phase; `FLOW_LIFE` is the life of a flow. The
documentation's diagrams are drawn from both tables, and every step is checked against them. The operations that the
handlers use are in `draft`.

Invariants, whatever happens and in whatever order:

* A flow that is over stays over.
* Each (action, attempt) counts once; a result for any attempt but the running one changes nothing.
* An action that is reached runs at most once (its retries are attempts of one run); one that can no longer be reached
  never runs.
* While a flow is paused, running actions may end and are recorded; what follows them is held until the flow is resumed.
* A flow in which nothing runs is over: nothing that can still run is ever forgotten.

No IO, clock or randomness: timers are effects with a duration, which the store adds to its own clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeAlias, assert_never

import attrs
import msgspec
from msgspec import Struct

from orchy.errors import InvalidInput, LimitReached, TooLarge
from orchy.flow import effects as fx
from orchy.flow.budget import Meter
from orchy.flow.definition import ActionType
from orchy.flow.draft import Changes, Draft, Rules
from orchy.flow.effects import Effect, RecordType
from orchy.flow.events import (
    Cancel,
    Completed,
    DeferredDone,
    DeferredFailed,
    Event,
    EventReceived,
    Failed,
    NotReceived,
    Overgrown,
    Pause,
    Resume,
    Started,
    TimerFired,
    TimerKind,
    Undeliverable,
)
from orchy.flow.execution import Flow, Phase, Running, State
from orchy.flow.graph import Graph
from orchy.flow.limits import shortened
from orchy.flow.runs import RunId

_encode = msgspec.json.Encoder().encode


class Verdict(StrEnum):
    """What an event did."""

    APPLIED = "applied"  # it moved the flow
    KEPT = "kept"  # an event that no wait takes yet
    DUPLICATE = "duplicate"  # it has counted before; nothing changed
    KEPT_BEFORE = "kept before"  # an event that is or was kept already; nothing changed
    LATE = "late"  # a result for an attempt that is over; only the history has it
    STALE = "stale"  # about an attempt that is over; a timer only has to be cancelled
    OVERTAKEN = "overtaken"  # a due timer that has been moved since; nothing changed (set by the mover)
    REFUSED = "refused"  # the flow is over; nothing changed


class Trigger(StrEnum):
    """What can happen to a running action."""

    RESULT = "result"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    WORKER_LOST = "worker lost"
    NOT_RECEIVED = "not received"
    RETRY_DUE = "retry due"
    DELAY_OVER = "delay over"
    EVENT = "event"
    WAIT_OVER = "wait over"
    DEFERRED_DONE = "evaluated"
    DEFERRED_FAILED = "script failed"
    DEFERRED_AGAIN = "evaluate again"
    UNDELIVERABLE = "undeliverable"
    RESUME = "resume"


class ActionEnd(StrEnum):
    """How an action's run ends: with a result, or by failing the flow."""

    FINISHED = "finished"
    FAILED = "failed"


_Handler: TypeAlias = Callable[[Draft, RunId, Running, Event], None]


@attrs.frozen
class Row:
    """In `phase`, `trigger` runs `handler`, after which the action is in one of `leads_to`."""

    phase: Phase
    trigger: Trigger
    handler: _Handler
    leads_to: frozenset[Phase | ActionEnd]


class Step(Struct, frozen=True):
    """The flow after an event, the effects to carry out, and what the event did."""

    flow: Flow
    effects: tuple[Effect, ...]
    changes: Changes
    verdict: Verdict


def step(
    graph: Graph, flow: Flow, event: Event, rules: Rules, *, consume: bool = False, meter: Meter | None = None
) -> Step:
    """The next step of a flow.

    With `consume` the new flow may reuse the parts of `flow`, so that a step of a wide flow copies nothing: the caller
    must not use `flow` again, unless this raises or has no effects. `meter` counts what all steps of one commit
    evaluate; by default this step has its own.

    Raises InvalidInput for a result that no worker of this flow can have (there is no such action, or it is a system
    action), LimitReached and TooLarge for an event that can't be kept.
    """
    draft = Draft(graph, flow, rules, consume=consume, meter=meter)
    verdict = _take(draft, event)
    if not draft.effects:  # a duplicate, late again, refused, or stale
        return Step(flow, (), Changes(), verdict)
    after = draft.flow()
    assert after.state is flow.state or after.state in FLOW_LIFE[flow.state], f"{flow.state} -> {after.state}"
    return Step(after, tuple(draft.effects), draft.changes(), verdict)


# Inputs.


def _take(draft: Draft, event: Event) -> Verdict:
    match event:
        case Started():
            draft.record(RecordType.STARTED)
            draft.reach(draft.graph.workflow.root)
            draft.start_reached()
            return Verdict.APPLIED
        case Completed() | Failed():
            return _take_result(draft, event)
        case TimerFired(kind, run_id, attempt):
            draft.effects.append(fx.CancelTimer(kind, run_id, attempt, fired=True))
            return _act(draft, _TIMER_TRIGGERS[kind], run_id, attempt, event)
        case NotReceived(run_id, attempt):
            draft.effects.append(fx.CancelTimer(TimerKind.LOST, run_id, attempt, fired=True))
            return _act(draft, Trigger.NOT_RECEIVED, run_id, attempt, event)
        case DeferredDone(run_id, attempt):
            return _act(draft, Trigger.DEFERRED_DONE, run_id, attempt, event)
        case DeferredFailed(run_id, attempt):
            return _act(draft, Trigger.DEFERRED_FAILED, run_id, attempt, event)
        case Undeliverable(run_id, attempt):
            return _act(draft, Trigger.UNDELIVERABLE, run_id, attempt, event)
        case EventReceived():
            return _take_event(draft, event)
        case Overgrown(run_id, attempt, message):
            draft.fail_flow(run_id, attempt, message)
            return Verdict.APPLIED
        case Pause() | Resume() | Cancel():
            return _take_command(draft, event)
        case never:
            assert_never(never)


def _act(draft: Draft, trigger: Trigger, run_id: RunId, attempt: int, event: Event) -> Verdict:
    """Run the handler that ACTION_LIFE has for a trigger; STALE if it has none."""
    running = draft.running.get(run_id)
    if running is None or running.attempt != attempt:
        return Verdict.STALE
    row = _ROWS.get((running.phase, trigger))
    if row is None:
        return Verdict.STALE
    row.handler(draft, run_id, running, event)
    now = draft.running.get(run_id)
    led_to = now.phase if now else ActionEnd.FINISHED if run_id in draft.finished else ActionEnd.FAILED
    assert led_to in row.leads_to, f"{running.phase} on {trigger} led to {led_to}"
    draft.start_reached()
    return Verdict.APPLIED


def _take_result(draft: Draft, result: Completed | Failed) -> Verdict:
    action = draft.graph.find_action(result.run_id)
    if action is None or action.type is not ActionType.USER:
        raise InvalidInput(f"flow {draft.before.id} has no user action {result.run_id}")
    succeeded = isinstance(result, Completed)
    trigger = Trigger.RESULT if succeeded else Trigger.FAILURE
    if _act(draft, trigger, result.run_id, result.attempt, result) is Verdict.APPLIED:
        return Verdict.APPLIED
    done = draft.finished.get(result.run_id)
    counted = done.attempt if succeeded and done else draft.failed.get(result.run_id) if not succeeded else None
    if counted == result.attempt:
        return Verdict.DUPLICATE
    late = draft.late.get(result.run_id, ())
    if result.attempt in late or len(late) >= draft.rules.limits.late_results_max:
        return Verdict.LATE  # recorded already, or too many to record
    draft.note_late(result.run_id, result.attempt)
    detail = "success" if isinstance(result, Completed) else result.error
    draft.record(RecordType.LATE, result.run_id, result.attempt, result.worker, detail)
    return Verdict.LATE


def _take_event(draft: Draft, event: EventReceived) -> Verdict:
    taken_before = draft.recent_events.get(event.event_id)
    if taken_before is not None:
        return Verdict.DUPLICATE if taken_before else Verdict.KEPT_BEFORE
    if draft.state.over:
        return Verdict.REFUSED
    for run_id, running in sorted(draft.running.items()):  # of several waits, the one with the lowest id takes it
        if running.phase is Phase.WAIT and running.event == event.event:
            draft.remember_event(event.event_id, taken=True)
            return _act(draft, Trigger.EVENT, run_id, running.attempt, event)
    draft.keep_event(event, _text_to_keep(draft, event))
    draft.remember_event(event.event_id, taken=False)
    draft.record(RecordType.EVENT_KEPT, detail=event.event)
    return Verdict.KEPT


def _text_to_keep(draft: Draft, event: EventReceived) -> bytes:
    """The encoded data of an event that is to be kept. Raises LimitReached, TooLarge."""
    limits, flow_id = draft.rules.limits, draft.before.id
    not_waited_for = "that it has not waited for"
    if len(draft.kept_events) >= limits.kept_events_max:
        raise LimitReached(f"flow {flow_id} keeps {limits.kept_events_max:,} events already {not_waited_for}")
    text = _encode(event.data)
    if len(text) > limits.kept_event_bytes_max:
        raise TooLarge(
            f"the data of event {shortened(event.event, 128)!r} is {len(text):,} bytes of JSON; flow {flow_id} does not"
            f" wait for it yet, and keeps at most {limits.kept_event_bytes_max:,} bytes of one"
        )
    if sum(kept.size_bytes for kept in draft.kept_events) + len(text) > limits.kept_events_bytes_max:
        most = limits.kept_events_bytes_max
        raise LimitReached(f"flow {flow_id} keeps events {not_waited_for} already, together at most {most:,} bytes")
    return text


def _take_command(draft: Draft, command: Pause | Resume | Cancel) -> Verdict:
    if draft.state is State.CANCELLED and isinstance(command, Cancel):
        return Verdict.DUPLICATE
    if draft.state.over:
        return Verdict.REFUSED
    paused = draft.state is State.PAUSED
    match command:
        case Cancel():
            draft.end(State.CANCELLED)
        case Pause():
            if paused:
                return Verdict.DUPLICATE
            draft.state = State.PAUSED
            draft.record(RecordType.PAUSED)
        case Resume():
            if not paused:
                return Verdict.DUPLICATE
            draft.state = State.RUNNING
            draft.record(RecordType.RESUMED)
            draft.effects.append(fx.Unpark())
            for run_id, running in list(draft.running.items()):
                # If one fails the flow, the others are STALE.
                _act(draft, Trigger.RESUME, run_id, running.attempt, command)
        case never:
            assert_never(never)
    return Verdict.APPLIED


# The handlers of ACTION_LIFE.


def _finish(draft: Draft, run_id: RunId, running: Running, event: Event) -> None:
    assert isinstance(event, Completed | DeferredDone)
    worker = event.worker if isinstance(event, Completed) else ""
    draft.complete(run_id, running.attempt, event.output, worker=worker)


def _retry_after_failure(draft: Draft, run_id: RunId, running: Running, event: Event) -> None:
    assert isinstance(event, Failed)
    draft.record(RecordType.FAILED, run_id, running.attempt, event.worker, event.error)
    draft.note_failed(run_id, running.attempt)
    draft.end_attempt(run_id, running, event.error)


def _retry_after_timeout(draft: Draft, run_id: RunId, running: Running, event: Event) -> None:
    draft.record(RecordType.TIMED_OUT, run_id, running.attempt)
    draft.end_attempt(run_id, running, "no result came in time")


def _retry_after_loss(draft: Draft, run_id: RunId, running: Running, event: Event) -> None:
    assert isinstance(event, TimerFired)
    draft.record(RecordType.WORKER_LOST, run_id, running.attempt, event.worker)
    who = f"the worker {event.worker}" if event.worker else "the worker"
    draft.end_attempt(run_id, running, f"Worker.Lost: {who} that had it was lost")


def _hand_out_again(draft: Draft, run_id: RunId, running: Running, event: Event) -> None:
    draft.record(RecordType.GIVEN_BACK, run_id, running.attempt)
    draft.start(run_id, running.attempt)


def _start_again(draft: Draft, run_id: RunId, running: Running, event: Event) -> None:
    draft.start(run_id, running.attempt)


def _end_waiting(draft: Draft, run_id: RunId, running: Running, event: Event) -> None:
    draft.complete(run_id, running.attempt, None)


def _deliver(draft: Draft, run_id: RunId, running: Running, event: Event) -> None:
    assert isinstance(event, EventReceived)
    draft.record(RecordType.EVENT, run_id, running.attempt, detail=event.event)
    draft.complete(run_id, running.attempt, event.data, event.event)


def _fail(draft: Draft, run_id: RunId, running: Running, event: Event) -> None:
    assert isinstance(event, DeferredFailed | Undeliverable)
    draft.record(RecordType.FAILED, run_id, running.attempt, detail=event.message)
    draft.fail_flow(run_id, running.attempt, event.message)


_FINISHED: frozenset[Phase | ActionEnd] = frozenset({ActionEnd.FINISHED})
_AGAIN: frozenset[Phase | ActionEnd] = frozenset({Phase.RETRY, Phase.QUEUED, Phase.HELD, ActionEnd.FAILED})

#: An attempt that begins after a wait may also exceed its budget, or be postponed when its commit's is exhausted.
_BEGUN: frozenset[Phase | ActionEnd] = frozenset(
    {Phase.QUEUED, Phase.DELAY, Phase.WAIT, Phase.DEFERRED, Phase.RETRY, ActionEnd.FINISHED, ActionEnd.FAILED}
)

#: The life of an action from the moment that it is reached. It begins in QUEUED, DELAY, WAIT or DEFERRED, in HELD while
#: the flow is paused, or in RETRY if it is postponed; a switch, and a wait whose event is kept, finish at once.
ACTION_LIFE: tuple[Row, ...] = (
    Row(Phase.QUEUED, Trigger.RESULT, _finish, _FINISHED),
    Row(Phase.QUEUED, Trigger.FAILURE, _retry_after_failure, _AGAIN),
    Row(Phase.QUEUED, Trigger.TIMEOUT, _retry_after_timeout, _AGAIN),
    Row(Phase.QUEUED, Trigger.WORKER_LOST, _retry_after_loss, _AGAIN),
    Row(Phase.QUEUED, Trigger.NOT_RECEIVED, _hand_out_again, _AGAIN),
    Row(Phase.QUEUED, Trigger.UNDELIVERABLE, _fail, frozenset({ActionEnd.FAILED})),
    Row(Phase.RETRY, Trigger.RETRY_DUE, _start_again, _BEGUN | {Phase.HELD}),
    Row(Phase.DELAY, Trigger.DELAY_OVER, _end_waiting, _FINISHED),
    Row(Phase.WAIT, Trigger.EVENT, _deliver, _FINISHED),
    Row(Phase.WAIT, Trigger.WAIT_OVER, _end_waiting, _FINISHED),
    Row(Phase.DEFERRED, Trigger.DEFERRED_DONE, _finish, _FINISHED),
    Row(Phase.DEFERRED, Trigger.DEFERRED_FAILED, _fail, frozenset({ActionEnd.FAILED})),
    Row(Phase.DEFERRED, Trigger.DEFERRED_AGAIN, _start_again, frozenset({Phase.DEFERRED, Phase.RETRY, Phase.HELD})),
    Row(Phase.HELD, Trigger.RESUME, _start_again, _BEGUN),
)
_ROWS: Mapping[tuple[Phase, Trigger], Row] = {(row.phase, row.trigger): row for row in ACTION_LIFE}

_TIMER_TRIGGERS = {
    TimerKind.TIMEOUT: Trigger.TIMEOUT,
    TimerKind.LOST: Trigger.WORKER_LOST,
    TimerKind.RETRY: Trigger.RETRY_DUE,
    TimerKind.DELAY: Trigger.DELAY_OVER,
    TimerKind.WAIT: Trigger.WAIT_OVER,
    TimerKind.DEFERRED: Trigger.DEFERRED_AGAIN,
}

_ACTIVE = frozenset({State.RUNNING, State.WAITING_DELAY, State.WAITING_EVENT})
_ENDS = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})

#: The life of a flow: the states that may follow each. RUNNING means that an action is queued, running, or about to
#: run; otherwise the flow waits for an event, or else for a delay.
FLOW_LIFE: Mapping[State, frozenset[State]] = {
    State.RUNNING: _ACTIVE | _ENDS | {State.PAUSED},
    State.WAITING_DELAY: _ACTIVE | _ENDS | {State.PAUSED},
    State.WAITING_EVENT: _ACTIVE | _ENDS | {State.PAUSED},
    State.PAUSED: _ACTIVE | _ENDS,
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}
