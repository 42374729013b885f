"""One flow as its history tells it, rebuilt from the records and compared with what the store holds.

The rules are stated independently of the engine: no machine and no effects, only which record may follow which, and
how much time must have passed between them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

from orchy.flow.definition import ActionDefinition, RetryPolicy
from tests.simulation.decoding import (
    DEFERRED,
    DELAY,
    HELD,
    LOST,
    PHASE_TIMERS,
    QUEUED,
    RETRY,
    WAIT,
    Attempt,
    StoredFlow,
    read_record,
)
from tests.simulation.plan import Action, Plan, find

#: The violations of this run, in order. Only the first one counts: after it, the books lag behind the store.
violations: list[Violation] = []


class Violation(Exception):
    """A rule was broken; the message begins with the rule."""

    def __init__(self, rule: str, details: object = "") -> None:
        super().__init__(f"{rule}: {details}")
        self.rule = rule
        violations.append(self)


def require(holds: object, rule: str, details: object = "") -> None:
    """Raises Violation."""
    if not holds:
        raise Violation(rule, details)


_ENDS = {"FLOW_COMPLETED": "COMPLETED", "FLOW_FAILED": "FAILED", "FLOW_CANCELLED": "CANCELLED"}
#: Why a flow fails: the action, its name and the attempt.
_REASON = re.compile(r"action (\d+) \((\w+)\) failed on attempt (\d+): ")
_PHASES = {"delay": DELAY, "wait": WAIT, "javascript": DEFERRED}
_Attempt = tuple[int, int]  # action, attempt


@attrs.define(eq=False)
class FlowBook:
    """What is known of a flow. Times are in ms, by the store's clock."""

    id: str
    partition: int
    plan: Plan
    definitions: Mapping[str, ActionDefinition]
    version: int = 0
    flow: StoredFlow | None = None
    input: Any = None
    fields: dict[str, bytes] = attrs.field(factory=dict)
    lines: list[tuple[int, str, int, int]] = attrs.field(factory=list)
    begun: set[int] = attrs.field(factory=set)  # actions
    scheduled: dict[_Attempt, int] = attrs.field(factory=dict)
    postponed: set[_Attempt] = attrs.field(factory=set)  # to the next commit
    parameters: dict[_Attempt, list[Any]] = attrs.field(factory=dict)  # what a worker is to get, the newest last
    enqueued: set[_Attempt] = attrs.field(factory=set)
    handed_out: dict[_Attempt, int] = attrs.field(factory=dict)
    given_back: set[_Attempt] = attrs.field(factory=set)
    leases: dict[_Attempt, int] = attrs.field(factory=dict)  # of what was handed out, in ms
    ended: dict[_Attempt, tuple[str, int]] = attrs.field(factory=dict)
    retried: dict[_Attempt, float] = attrs.field(factory=dict)  # attempts that shall follow, and after how long
    outcomes: dict[int, str] = attrs.field(factory=dict)
    state: str | None = None  # COMPLETED, FAILED, CANCELLED once over
    paused: bool = False
    ended_ms: int | None = None
    retain_ms: int = 0
    removed: bool = False
    kept: list[tuple[str, str]] = attrs.field(factory=list)  # event and token
    tokens: set[str] = attrs.field(factory=set)  # of all events that ever counted
    consumed: set[str] = attrs.field(factory=set)

    @property
    def over(self) -> bool:
        """Whether the flow has ended."""
        return self.state is not None

    @property
    def awaited(self) -> list[str]:
        """The events that the flow waits for."""
        running = self.flow.running.values() if self.flow else ()
        return sorted({item.event for item in running if item.phase == WAIT})

    def definition_of(self, action: Action) -> ActionDefinition:
        return self.definitions[action.name]

    def replay(self, entry: bytes, now_ms: int) -> None:
        """Follow one more line of the history; `fields` already has what its commit wrote."""
        kind, action_id, attempt, _, detail = read_record(entry)
        where = f"flow {self.id}, {kind} of action {action_id}, attempt {attempt}"
        if self.lines:
            require(now_ms >= self.lines[-1][0], "the history is in order", where)
        require((kind == "STARTED") == (not self.lines), "a history begins with the start, once", where)
        self.lines.append((now_ms, kind, action_id, attempt))
        if kind == "LATE":
            running = self.flow.running.get(action_id) if self.flow else None
            ran_on = running is not None and running.attempt == attempt and (action_id, attempt) not in self.ended
            require(self.over or not ran_on, "a result is late only for an attempt that is over", where)
            return
        require(not self.over, "nothing happens to a flow that is over", where)
        key = (action_id, attempt)
        match kind:
            case "SCHEDULED":
                self._schedule(key, now_ms, where)
            case "COMPLETED":
                self._complete(key, detail, now_ms, where)
            case "FAILED":
                self._end(key, kind, now_ms, where)
                if self._action(action_id).type == "user":
                    require(key in self.handed_out, "a result is of an attempt that was handed out", where)
            case "TIMED_OUT":
                self._end(key, kind, now_ms, where)
                require(key in self.handed_out, "what times out was handed out", where)
                timeout_ms = self.definition_of(self._action(action_id)).timeout_seconds * 1000
                require(now_ms - self.handed_out[key] >= timeout_ms, "no timer is early", where)
            case "WORKER_LOST":
                self._end(key, kind, now_ms, where)
                require(key in self.handed_out, "who is lost was handed something out", where)
                lease_ms = self.leases.get(key, 0)
                require(lease_ms, "only a worker with a lease is lost", where)
                require(now_ms - self.handed_out[key] >= lease_ms, "no worker is lost before its lease is over", where)
            case "GIVEN_BACK":
                require(key in self.handed_out and key not in self.given_back, "what is given back was handed out", key)
                self.given_back.add(key)
                self.scheduled.pop(key, None)
                self.enqueued.discard(key)
            case "POSTPONED":
                self._postpone(key, where)
            case "RETRY":
                self._retry(key, detail, where)
            case "PAUSED":
                require(not self.paused, "only a flow that goes on is paused", where)
                self.paused = True
            case "RESUMED":
                require(self.paused, "only a paused flow is resumed", where)
                self.paused = False
            case "FLOW_FAILED":
                self._check_reason(str(detail), where)
                self.state = _ENDS[kind]
            case "FLOW_COMPLETED" | "FLOW_CANCELLED":
                self.state = _ENDS[kind]
            case _:
                pass

    def _action(self, action_id: int) -> Action:
        return self.plan.actions[action_id]

    def _context(self) -> dict[str, Any]:
        """The context of expressions at this line of the history."""
        outputs = {str(id): json.loads(self.fields[f"o:{id}"].split(b":", 1)[1]) for id in self.outcomes}
        return {"input": self.input, **{id: {"output": output} for id, output in outputs.items()}}

    def _begin(self, action_id: int, where: str) -> None:
        """An action starts for the first time, so its join must be satisfied."""
        if action_id not in self.begun:
            reached = self.plan.reached(self.outcomes)
            require(action_id in reached, "an action starts when its join has what it waits for", where)
            self.begun.add(action_id)

    def _schedule(self, key: _Attempt, now_ms: int, where: str) -> None:
        action_id, attempt = key
        action = self._action(action_id)
        require(not self.paused, "nothing starts in a paused flow", where)
        require(action_id not in self.outcomes, "an action runs once", where)
        require(key not in self.ended, "an attempt that is over does not begin again", where)
        self._begin(action_id, where)
        if key in self.scheduled:
            require(action.name == "javascript", "an attempt is scheduled once", where)
        elif attempt > 1:
            require(attempt <= max(1, self.definition_of(action).retry_count), "no attempt too many", where)
            require(key in self.retried, "an attempt follows on one that failed", where)
            ended_ms = self.ended[action_id, attempt - 1][1]
            require(now_ms - ended_ms >= self.retried[key] * 1000, "no timer is early", where)
        self.postponed.discard(key)
        self.scheduled.setdefault(key, now_ms)
        if action.type == "user":
            self.parameters.setdefault(key, []).append(self.plan.parameters(action_id, self._context()))

    def _end(self, key: _Attempt, kind: str, now_ms: int, where: str) -> None:
        require(key not in self.ended, "an attempt ends once", f"{where}; it had {self.ended.get(key)}")
        require(key[0] not in self.outcomes, "an action completes once", where)
        self.ended[key] = (kind, now_ms)

    def _complete(self, key: _Attempt, detail: Any, now_ms: int, where: str) -> None:
        action_id, _ = key
        action = self._action(action_id)
        self._end(key, "COMPLETED", now_ms, where)
        self._begin(action_id, where)
        outcome = "default" if detail is None else detail
        if action.type == "user":
            require(key in self.handed_out, "a result is of an attempt that was handed out", where)
        elif action.name == "switch":
            wanted = self.plan.branch(action_id, self._context())
            require(outcome == wanted, "a switch takes its branch", f"{where}: {outcome!r}, not {wanted!r}")
        elif action.name == "javascript":
            wanted = script_result(action.document["expression"], self._context())
            output = json.loads(self.fields[f"o:{action_id}"].split(b":", 1)[1])
            require(output == wanted, "a script's result is its own", f"{where}: {output}, not {wanted}")
        elif action.name == "delay":
            least_ms = action.document["delaySeconds"] * 1000
            require(now_ms - self.scheduled[key] >= least_ms, "no timer is early", where)
        elif action.name == "wait" and detail is None:
            least_ms = action.document["timeoutSeconds"] * 1000
            require(now_ms - self.scheduled[key] >= least_ms, "no timer is early", where)
        elif action.name == "wait":
            require(outcome == action.document["event"], "a wait takes the event that it is for", where)
        self.outcomes[action_id] = outcome

    def _retry(self, key: _Attempt, detail: Any, where: str) -> None:
        action_id, attempt = key
        require((action_id, attempt - 1) in self.ended, "an attempt follows on one that failed", where)
        require(key not in self.retried, "an attempt is planned once", where)
        definition = self.definition_of(self._action(action_id))
        factor = attempt if definition.retry_policy is RetryPolicy.BACKOFF else 1
        wanted = definition.retry_after_seconds * factor
        require(detail == wanted, "retries wait as their policy says", f"{where}: {detail} s, not {wanted} s")
        self.retried[key] = wanted

    def _postpone(self, key: _Attempt, where: str) -> None:
        """The action is ready; it starts with the next commit."""
        require(not self.paused, "nothing starts in a paused flow", where)
        require(key[0] not in self.outcomes, "an action runs once", where)
        self._begin(key[0], where)
        self.postponed.add(key)

    def _check_reason(self, error: str, where: str) -> None:
        """A flow fails only if an action is out of attempts, a script threw, or a switch has no branch."""
        said = _REASON.match(error)
        require(said is not None, "a flow that fails says why", f"{where}: {error}")
        assert said is not None
        action, attempt = self._action(int(said[1])), int(said[3])
        require(action.name == said[2], "a flow that fails says why", f"{where}: {error}")
        if action.type == "user":
            most = max(1, self.definition_of(action).retry_count)
            good = attempt == most and (action.id, attempt) in self.ended
            require(good, "a flow fails when no attempt is left", f"{where}: {error}")
        elif action.name == "switch":
            self._begin(action.id, where)
            wanted = self.plan.branch(action.id, self._context())
            require(wanted is None, "a switch takes its branch", f"{where}: none, not {wanted!r}")
        else:
            good = action.name == "javascript" and action.document["expression"].startswith("throw ")
            require(good, "only what can fail fails", f"{where}: {error}")

    def check_attempt(self, attempt: Attempt) -> None:
        """A worker gets what the definition says."""
        key, where = (attempt.action_id, attempt.attempt), f"flow {self.id}: {attempt}"
        action = self._action(attempt.action_id)
        good = (attempt.workflow, attempt.flow_id, attempt.name) == (self.plan.name, self.id, action.name)
        require(good and action.type == "user", "a worker gets what is its own", where)
        timeout_seconds = self.definition_of(action).timeout_seconds
        require(attempt.timeout_seconds == timeout_seconds, "a worker knows how long it has", where)
        wanted = self.parameters.get(key, [])  # more than one, if it was handed out again as never received
        require(attempt.parameters in wanted, "a worker gets its parameters", f"{where}, not {wanted}")

    def hand_out(self, action_id: int, attempt: int, now_ms: int, lease_ms: int = 0) -> None:
        """An attempt was handed to a worker."""
        where = f"flow {self.id}, action {action_id}, attempt {attempt}"
        assert self.flow is not None
        require(not self.over and not self.removed, "nothing is handed out of a flow that is over", where)
        require(not self.paused, "nothing is handed out of a paused flow", where)
        again = (action_id, attempt) in self.handed_out and (action_id, attempt) not in self.given_back
        require(not again, "an attempt is handed out once", where)
        self.given_back.discard((action_id, attempt))
        running = self.flow.running.get(action_id)
        good = running is not None and running.attempt == attempt and running.phase == QUEUED
        require(good, "what is handed out is the running attempt", f"{where}: {running}")
        self.handed_out[action_id, attempt] = now_ms
        self.leases[action_id, attempt] = lease_ms
        self.lines.append((now_ms, "HANDED_OUT", action_id, attempt))

    def give_back(self, action_id: int, attempt: int, now_ms: int) -> None:
        """An attempt did not reach its worker and was given back."""
        key = (action_id, attempt)
        require(key in self.handed_out and key not in self.given_back, "what is given back was handed out", key)
        self.given_back.add(key)
        self.lines.append((now_ms, "GIVEN_BACK", action_id, attempt))

    def agree(self) -> None:
        """Check that the history and the state agree. Raises Violation."""
        flow = self.flow
        assert flow is not None
        where = f"flow {self.id}: {flow.state}, running {flow.running}, history {self.lines[-8:]}"
        require(flow.over == self.over, "history and state agree on the end", where)
        require(flow.state == self.state or not self.over, "history and state agree on the end", where)
        require(flow.over or (flow.state == "PAUSED") == self.paused, "and on the pause", where)
        require(flow.paused == (flow.state == "PAUSED"), "and on the pause", where)
        require(flow.over == (not flow.running), "a flow is over when nothing runs, and only then", where)
        require(flow.finished.keys() == self.outcomes.keys(), "and on what is finished", where)
        for action_id, running in flow.running.items():
            key = (action_id, running.attempt)
            require(action_id not in flow.finished, "what is finished does not run", where)
            require(key not in self.ended, "an attempt that is over does not run", where)
            if running.phase == RETRY:
                planned = key in self.retried and key not in self.scheduled
                require(planned or key in self.postponed, "a retry was planned", where)
            elif running.phase == HELD:
                require(self.paused, "only a paused flow holds anything", where)
            else:
                require(key in self.scheduled, "what runs was scheduled", where)
                self._check_phase(action_id, running.phase, where)
            if running.phase == WAIT:
                event = self._action(action_id).document["event"]
                require(running.event == event, "a wait waits for its event", where)
                names = [name for name, _, _ in flow.kept]
                require(event not in names, "a wait takes the event that is kept", where)
        reached = self.plan.reached(self.outcomes)
        if not self.over or self.state == "COMPLETED":
            there = flow.finished.keys() | flow.running.keys()
            require(there == reached, "what is reached runs, and nothing else", f"{sorted(reached)}; {where}")
        else:
            require(flow.finished.keys() <= reached, "what is reached runs, and nothing else", where)

    def _check_phase(self, action_id: int, phase: str, where: str) -> None:
        action = self._action(action_id)
        wanted = QUEUED if action.type == "user" else _PHASES[action.name]
        require(phase == wanted, "what runs is in the phase that its kind has", where)

    def live_timers(self) -> dict[tuple[str, int, int], bool]:
        """The timers that the flow may have now; True for those that it must have."""
        assert self.flow is not None
        timers = {}
        for action_id, running in self.flow.running.items():
            kind = PHASE_TIMERS.get(running.phase)
            if kind is not None:
                if running.phase == QUEUED:
                    timers[LOST, action_id, running.attempt] = False
                needed = running.phase != QUEUED
                if running.phase == WAIT:
                    needed = bool(self._action(action_id).document.get("timeoutSeconds"))
                timers[kind, action_id, running.attempt] = needed
        return timers

    def take_events(self) -> None:
        """Check that each kept event counts once, and that events of one name are taken in the order of arrival."""
        assert self.flow is not None
        kept = [(event, _token(data)) for event, data, _ in self.flow.kept]
        where = f"flow {self.id}: {self.kept} -> {kept}"
        there = set(kept)
        left = [item for item in self.kept if item in there]
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


def script_result(script: str, context: Mapping[str, Any]) -> Any:
    """The result of a script (see `node.Engine`)."""
    verb, name, *rest = script.split(" ", 2)
    return {name: 1} if verb == "set" else {name: find(rest[0].removeprefix("$."), context)}
