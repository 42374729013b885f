"""One flow as its history tells it, written anew from the records and compared with what the store holds.

The rules here are said another way than in the engine: no machine, no effects, only what may follow what in a history
and how much time must have passed between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from orchy.flow import codec
from orchy.flow.definition import Action, ActionDefinition, ActionType, RetryPolicy, Workflow
from orchy.flow.draft import PHASE_TIMERS
from orchy.flow.effects import RecordType
from orchy.flow.events import TimerKind
from orchy.flow.execution import Flow, Phase, State


class Violation(Exception):
    """A rule was broken. The text begins with the rule."""

    def __init__(self, rule: str, details: object = "") -> None:
        super().__init__(f"{rule}: {details}")
        self.rule = rule


def require(holds: object, rule: str, details: object = "") -> None:
    """Raises Violation."""
    if not holds:
        raise Violation(rule, details)


_ENDS = {
    RecordType.FLOW_COMPLETED: State.COMPLETED,
    RecordType.FLOW_FAILED: State.FAILED,
    RecordType.FLOW_CANCELLED: State.CANCELLED,
}
_Attempt = tuple[int, int]  # action, attempt


@attrs.define(eq=False)
class FlowBook:
    """What is known of a flow. Times are the store's, in ms."""

    id: str
    partition: int
    workflow: Workflow
    definitions: Mapping[str, ActionDefinition]
    version: int = 0
    flow: Flow | None = None
    fields: dict[str, bytes] = attrs.field(factory=dict)
    lines: list[tuple[int, str, int, int]] = attrs.field(factory=list)
    scheduled: dict[_Attempt, int] = attrs.field(factory=dict)
    enqueued: set[_Attempt] = attrs.field(factory=set)
    handed_out: dict[_Attempt, int] = attrs.field(factory=dict)
    given_back: set[_Attempt] = attrs.field(factory=set)
    leases: dict[_Attempt, int] = attrs.field(factory=dict)  # of what was handed out, in ms
    ended: dict[_Attempt, tuple[str, int]] = attrs.field(factory=dict)
    retried: dict[_Attempt, float] = attrs.field(factory=dict)  # attempts that shall follow, and after how long
    outcomes: dict[int, str] = attrs.field(factory=dict)
    state: State | None = None  # COMPLETED, FAILED, CANCELLED once over
    paused: bool = False
    ended_ms: int | None = None
    retain_ms: int = 0
    removed: bool = False
    kept: list[tuple[str, str]] = attrs.field(factory=list)  # event and token
    tokens: set[str] = attrs.field(factory=set)  # of all events that ever counted
    consumed: set[str] = attrs.field(factory=set)

    @property
    def over(self) -> bool:
        """Whether nothing may happen any more."""
        return self.state is not None

    def definition_of(self, action: Action) -> ActionDefinition:
        return self.definitions[action.name]

    def replay(self, entry: bytes, now_ms: int) -> None:
        """One more line of the history."""
        letter, action_id, attempt, _, detail = codec.decode_record(entry)
        kind = RecordType(letter)
        where = f"flow {self.id}, {kind.name} of action {action_id}, attempt {attempt}"
        if self.lines:
            require(now_ms >= self.lines[-1][0], "the history is in order", where)
        require((kind is RecordType.STARTED) == (not self.lines), "a history begins with the start, once", where)
        self.lines.append((now_ms, kind.name, action_id, attempt))
        if kind is RecordType.LATE:
            running = self.flow.running.get(action_id) if self.flow else None
            ran_on = running is not None and running.attempt == attempt and (action_id, attempt) not in self.ended
            require(self.over or not ran_on, "a result is late only for an attempt that is over", where)
            return
        require(not self.over, "nothing happens to a flow that is over", where)
        key = (action_id, attempt)
        match kind:
            case RecordType.SCHEDULED:
                self._schedule(key, now_ms, where)
            case RecordType.COMPLETED:
                self._complete(key, detail, now_ms, where)
            case RecordType.FAILED:
                self._end(key, kind, now_ms, where)
                if self._action(action_id).type is ActionType.USER:
                    require(key in self.handed_out, "a result is of an attempt that was handed out", where)
            case RecordType.TIMED_OUT:
                self._end(key, kind, now_ms, where)
                require(key in self.handed_out, "what times out was handed out", where)
                timeout_ms = self.definition_of(self._action(action_id)).timeout_seconds * 1000
                require(now_ms - self.handed_out[key] >= timeout_ms, "no timer is early", where)
            case RecordType.WORKER_LOST:
                self._end(key, kind, now_ms, where)
                require(key in self.handed_out, "who is lost was handed something out", where)
                lease_ms = self.leases.get(key, 0)
                require(lease_ms, "only a worker with a lease is lost", where)
                require(now_ms - self.handed_out[key] >= lease_ms, "no worker is lost before its lease is over", where)
            case RecordType.GIVEN_BACK:
                require(key in self.handed_out and key not in self.given_back, "what is given back was handed out", key)
                self.given_back.add(key)
                self.scheduled.pop(key, None)
                self.enqueued.discard(key)
            case RecordType.RETRY:
                self._retry(key, detail, where)
            case RecordType.PAUSED:
                require(not self.paused, "only a flow that goes on is paused", where)
                self.paused = True
            case RecordType.RESUMED:
                require(self.paused, "only a paused flow is resumed", where)
                self.paused = False
            case RecordType.FLOW_COMPLETED | RecordType.FLOW_FAILED | RecordType.FLOW_CANCELLED:
                self.state = _ENDS[kind]
            case _:
                pass

    def _action(self, action_id: int) -> Action:
        return self.workflow.actions[action_id]

    def _schedule(self, key: _Attempt, now_ms: int, where: str) -> None:
        action_id, attempt = key
        action = self._action(action_id)
        require(not self.paused, "nothing starts in a paused flow", where)
        require(action_id not in self.outcomes, "an action runs once", where)
        require(key not in self.ended, "an attempt that is over does not begin again", where)
        if key in self.scheduled:
            require(action.name == "javascript", "an attempt is scheduled once", where)
        elif attempt > 1:
            require(attempt <= max(1, self.definition_of(action).retry_count), "no attempt too many", where)
            require(key in self.retried, "an attempt follows on one that failed", where)
            ended_ms = self.ended[action_id, attempt - 1][1]
            require(now_ms - ended_ms >= self.retried[key] * 1000, "no timer is early", where)
        self.scheduled.setdefault(key, now_ms)

    def _end(self, key: _Attempt, kind: RecordType, now_ms: int, where: str) -> None:
        require(key not in self.ended, "an attempt ends once", f"{where}; it had {self.ended.get(key)}")
        require(key[0] not in self.outcomes, "an action completes once", where)
        self.ended[key] = (kind.name, now_ms)

    def _complete(self, key: _Attempt, detail: Any, now_ms: int, where: str) -> None:
        action_id, _ = key
        action = self._action(action_id)
        self._end(key, RecordType.COMPLETED, now_ms, where)
        self.outcomes[action_id] = detail or "default"
        if action.type is ActionType.USER:
            require(key in self.handed_out, "a result is of an attempt that was handed out", where)
        elif action.name == "delay":
            least_ms = action.settings["delaySeconds"] * 1000
            require(now_ms - self.scheduled[key] >= least_ms, "no timer is early", where)
        elif action.name == "wait" and detail is None:
            least_ms = action.settings["timeoutSeconds"] * 1000
            require(now_ms - self.scheduled[key] >= least_ms, "no timer is early", where)

    def _retry(self, key: _Attempt, detail: Any, where: str) -> None:
        action_id, attempt = key
        require((action_id, attempt - 1) in self.ended, "an attempt follows on one that failed", where)
        require(key not in self.retried, "an attempt is planned once", where)
        definition = self.definition_of(self._action(action_id))
        factor = attempt if definition.retry_policy is RetryPolicy.BACKOFF else 1
        wanted = definition.retry_after_seconds * factor
        require(detail == wanted, "retries wait as their policy says", f"{where}: {detail} s, not {wanted} s")
        self.retried[key] = wanted

    def hand_out(self, action_id: int, attempt: int, now_ms: int, lease_ms: int = 0) -> None:
        """A worker gets an attempt."""
        where = f"flow {self.id}, action {action_id}, attempt {attempt}"
        assert self.flow is not None
        require(not self.over and not self.removed, "nothing is handed out of a flow that is over", where)
        require(not self.paused, "nothing is handed out of a paused flow", where)
        again = (action_id, attempt) in self.handed_out and (action_id, attempt) not in self.given_back
        require(not again, "an attempt is handed out once", where)
        self.given_back.discard((action_id, attempt))
        running = self.flow.running.get(action_id)
        good = running is not None and running.attempt == attempt and running.phase is Phase.QUEUED
        require(good, "what is handed out is the running attempt", f"{where}: {running}")
        self.handed_out[action_id, attempt] = now_ms
        self.leases[action_id, attempt] = lease_ms
        self.lines.append((now_ms, RecordType.HANDED_OUT.name, action_id, attempt))

    def give_back(self, action_id: int, attempt: int, now_ms: int) -> None:
        """It did not reach the worker."""
        key = (action_id, attempt)
        require(key in self.handed_out and key not in self.given_back, "what is given back was handed out", key)
        self.given_back.add(key)
        self.lines.append((now_ms, RecordType.GIVEN_BACK.name, action_id, attempt))

    def agree(self) -> None:
        """The history and the state say the same. Raises Violation."""
        flow = self.flow
        assert flow is not None
        where = f"flow {self.id}: {flow.state}, running {dict(flow.running)}, history {self.lines[-8:]}"
        require(flow.state.over == self.over, "history and state agree on the end", where)
        require(flow.state is self.state or not self.over, "history and state agree on the end", where)
        require(flow.state.over or (flow.state is State.PAUSED) == self.paused, "and on the pause", where)
        require(flow.state.over == (not flow.running), "a flow is over when nothing runs, and only then", where)
        require(flow.finished.keys() == self.outcomes.keys(), "and on what is finished", where)
        for action_id, running in flow.running.items():
            key = (action_id, running.attempt)
            require(action_id not in flow.finished, "what is finished does not run", where)
            require(key not in self.ended, "an attempt that is over does not run", where)
            match running.phase:
                case Phase.RETRY:
                    require(key in self.retried and key not in self.scheduled, "a retry was planned", where)
                case Phase.HELD:
                    require(self.paused, "only a paused flow holds anything", where)
                case _:
                    require(key in self.scheduled, "what runs was scheduled", where)
                    if running.phase is Phase.WAIT:
                        names = [event.event for event in flow.kept_events]
                        require(running.event not in names, "a wait takes the event that is kept", where)
        if flow.state is State.COMPLETED:
            wanted = reached(self.workflow, self.outcomes)
            require(flow.finished.keys() == wanted, "what is reached runs, and nothing else", f"{wanted}; {where}")

    def live_timers(self) -> dict[tuple[TimerKind, int, int], bool]:
        """The timers that the flow may have now, and whether it must have them."""
        assert self.flow is not None
        timers = {}
        for action_id, running in self.flow.running.items():
            kind = PHASE_TIMERS.get(running.phase)
            if kind is not None:
                if running.phase is Phase.QUEUED:
                    timers[TimerKind.LOST, action_id, running.attempt] = False
                needed = running.phase is not Phase.QUEUED
                if running.phase is Phase.WAIT:
                    needed = bool(self._action(action_id).settings.get("timeoutSeconds"))
                timers[kind, action_id, running.attempt] = needed
        return timers

    def take_events(self) -> None:
        """Follow the kept events: each counts once, those of a name in the order in which they came."""
        assert self.flow is not None
        kept = [(event.event, _token(event.data)) for event in self.flow.kept_events]
        where = f"flow {self.id}: {self.kept} -> {kept}"
        left = [item for item in self.kept if item in kept]
        require(kept[: len(left)] == left, "kept events stay in order", where)
        taken: dict[str, list[str]] = {}
        for action_id, done in self.flow.finished.items():
            if self._action(action_id).name == "wait" and done.output is not None:
                token = _token(done.output)
                if token not in self.consumed:
                    taken.setdefault(self.outcomes[action_id], []).append(token)
                    self.consumed.add(token)
        for event in {event: None for event, _ in self.kept}:
            before = [token for name, token in self.kept if name == event]
            after = [token for name, token in left if name == event]
            gone = before[: len(before) - len(after)]
            require(before == gone + after, "of kept events the oldest goes first", where)
            require(set(gone) <= set(taken.get(event, ())) or self.over, "a kept event goes to a wait", where)
        waits = [done.output for id, done in self.flow.finished.items() if self._action(id).name == "wait"]
        all_taken = [_token(output) for output in waits if output is not None]
        require(len(all_taken) == len(set(all_taken)), "an event is taken once", where)
        require(len(kept) == len(set(kept)), "an event is kept once", where)
        require(not {token for _, token in kept} & set(all_taken), "an event is kept or taken", where)
        self.kept = kept
        self.tokens.update(token for _, token in kept)
        self.tokens.update(all_taken)


def _token(data: Any) -> str:
    return data["token"] if isinstance(data, dict) and "token" in data else json.dumps(data)


def reached(workflow: Workflow, outcomes: Mapping[int, str]) -> set[int]:
    """Dead-path elimination said another way: in topological order, an action runs if an edge into it is taken."""
    taken = {workflow.root}
    for action_id in sorted(workflow.actions):
        if action_id in taken and action_id in outcomes:
            targets = workflow.actions[action_id].next
            taken.update(targets.get(outcomes[action_id], ()))
    return taken & workflow.actions.keys()
