"""The rules for a flow and for all that belongs to it. Pure: facts in, one sentence for each violation out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import attrs

from orchy.commands.verify.history import HistoryFold
from orchy.engine.transition import to_listing
from orchy.flow import codec
from orchy.flow.draft import PHASE_TIMERS
from orchy.flow.events import TimerKind
from orchy.flow.execution import Flow, Phase, Running, State
from orchy.flow.runs import RunId
from orchy.store.flows import OWN_FIELDS, Listing
from orchy.store.timers import TimerKey

_ENTRY = re.compile(rb"([^:\n]*):(-?\d+):(\d+):(\d+):([^\n]*)\n")


@attrs.frozen
class Entry:
    """The head of a queue entry."""

    flow_id: str
    action_id: RunId
    attempt: int
    action_name: str

    def __str__(self) -> str:
        return f"{self.flow_id}:{self.action_id}:{self.attempt}"

    @classmethod
    def parse(cls, text: bytes) -> Entry | None:
        """The head of an entry; None: the text is no entry."""
        match = _ENTRY.match(text)
        if match is None:
            return None
        return cls(
            match[1].decode("utf-8", "replace"),
            RunId(int(match[2])),
            int(match[3]),
            match[5].decode("utf-8", "replace"),
        )


@attrs.frozen
class FlowFacts:
    """All that the store has of one flow, read consistently.

    `fields` are those of its hash. `queued` are the running (action, attempt) pairs that are in a queue, `timers` the
    timers that it needs and that are set. `listed` is the creation time in each listing that has the flow, `retained`
    are the listings under which its removal is planned. `has_timeout` says for each action whether its wait has a
    timeout; None: the definition does not exist. `quarantined` is the flow's score in the index of the quarantine.
    """

    fields: Mapping[str, bytes]
    history: HistoryFold
    queued: Collection[tuple[int, int]]
    parked: Sequence[bytes]
    timers: Collection[TimerKey]
    listed: Mapping[Listing, int]
    retained: Collection[Listing]
    is_named: bool
    has_timeout: Mapping[int, bool] | None
    quarantined: int | None = None


def decode(flow_id: str, fields: Mapping[str, bytes]) -> Flow | None:
    """The flow; None if its fields can't be decoded."""
    try:
        int(fields["v"]), int(fields["c"])
        return codec.decode_flow(flow_id, {name: value for name, value in fields.items() if name not in OWN_FIELDS})
    except (KeyError, ValueError, TypeError):
        return None


def timer_of(flow_id: str, action_id: RunId, running: Running) -> TimerKey | None:
    """The timer that a running action may have."""
    kind = PHASE_TIMERS.get(running.phase)
    return None if kind is None else TimerKey(kind, action_id, running.attempt, flow_id)


def flow_problems(flow: Flow, facts: FlowFacts) -> list[str]:
    """What is wrong with a flow."""
    return [
        *_history_problems(flow, facts.history),
        *_state_problems(flow, facts),
        *(
            problem
            for action_id, one in sorted(flow.running.items())
            for problem in _wait_problems(flow, action_id, one, facts)
        ),
        *_index_problems(flow, facts),
    ]


def _history_problems(flow: Flow, fold: HistoryFold) -> list[str]:
    problems = list(fold.problems)
    problems += [f"action {id} completed {count} times" for id, count in fold.completions.items() if count > 1]
    if not fold.lines:
        return [*problems, "it has no history"]
    if fold.end is not (flow.state if flow.state.over else None):
        problems.append(f"its state is {flow.state}, its history says {fold.end or 'that it goes on'}")
    if not fold.whole:
        return problems  # its first lines are missing
    if not flow.state.over and fold.paused is not (flow.state is State.PAUSED):
        problems.append(f"its state is {flow.state}, its history says that it is {'' if fold.paused else 'not '}paused")
    for action_id in sorted(flow.finished.keys() | fold.completions.keys()):
        done = flow.finished.get(action_id)
        recorded = fold.completed_attempts.get(action_id)
        if done is None:
            problems.append(f"action {action_id} completed in its history, and has no output")
        elif recorded is None:
            problems.append(f"action {action_id} has an output, and did not complete in its history")
        elif recorded != done.attempt:
            problems.append(
                f"action {action_id} has the output of attempt {done.attempt}, its history of attempt {recorded}"
            )
    for action_id in sorted(flow.running.keys() | fold.running.keys()):
        running, attempt = flow.running.get(action_id), fold.running.get(action_id)
        if running is None:
            problems.append(f"action {action_id} runs in its history (attempt {attempt}), and not in its state")
        elif running.attempt != attempt and running.phase is not Phase.HELD:
            problems.append(f"action {action_id} runs in attempt {running.attempt}, its history says {attempt}")
    return problems


def _state_problems(flow: Flow, facts: FlowFacts) -> list[str]:
    problems = []
    if flow.state.over:
        if flow.running:
            problems.append(f"it is {flow.state}, and actions {sorted(flow.running)} run")
    elif not flow.running:
        problems.append(f"it is {flow.state}, and nothing runs: it will never end")
    elif flow.state not in (_state_of(flow), State.PAUSED):
        problems.append(f"it is {flow.state}, and what runs makes it {_state_of(flow)}")
    if ("p" in facts.fields) is not (flow.state is State.PAUSED):
        problems.append(f"it is {flow.state}, and the mark of a pause is {'' if 'p' in facts.fields else 'not '}there")
    if ("z" in facts.fields) is not flow.state.over:
        problems.append(f"it is {flow.state}, and a time of its end is {'' if 'z' in facts.fields else 'not '}there")
    both = sorted(flow.running.keys() & flow.finished.keys())
    problems += [f"action {action_id} runs, and has an output" for action_id in both]
    if facts.parked and flow.state is not State.PAUSED:
        problems.append(f"it is {flow.state}, and {len(facts.parked)} queue entries are set aside for it")
    if facts.has_timeout is None:
        problems.append(f"version {flow.workflow_version} of its workflow {flow.workflow} is not there")
    return problems


def _state_of(flow: Flow) -> State:
    phases = {running.phase for running in flow.running.values()}
    if phases & {Phase.QUEUED, Phase.RETRY, Phase.DEFERRED, Phase.HELD}:
        return State.RUNNING
    return State.WAITING_EVENT if Phase.WAIT in phases else State.WAITING_DELAY


def _wait_problems(flow: Flow, action_id: RunId, running: Running, facts: FlowFacts) -> list[str]:
    """Problems with what a running action waits for."""
    where = f"action {action_id}, attempt {running.attempt}"
    timer = timer_of(flow.id, action_id, running)
    if running.phase is Phase.HELD:
        return [] if flow.state is State.PAUSED else [f"{where} is held by a pause, and the flow is {flow.state}"]
    if running.phase is Phase.QUEUED:
        parked = [Entry.parse(text) for text in facts.parked]
        there = (
            (action_id, running.attempt) in facts.queued
            or any(one and (one.action_id, one.attempt) == (action_id, running.attempt) for one in parked)
            or timer in facts.timers
        )
        return [] if there else [f"{where} waits for a worker, and is in no queue and has no timeout {timer}"]
    if running.phase is Phase.WAIT and not (facts.has_timeout or {}).get(action_id, False):
        return []
    return [] if timer in facts.timers else [f"{where} waits for its timer {timer}, which is not set"]


def _index_problems(flow: Flow, facts: FlowFacts) -> list[str]:
    problems = []
    listing = to_listing(flow.state)
    created = int(facts.fields["c"])
    if listing not in facts.listed:
        problems.append(f"it is {flow.state}, and not in the index i:{listing}:{flow.workflow}")
    for other, score in facts.listed.items():
        if other is not listing:
            problems.append(f"it is {flow.state}, and also in the index i:{other}:{flow.workflow}")
        elif score != created:
            problems.append(f"it was created at {created}, the index i:{other}:{flow.workflow} says {score}")
    if ("u" in facts.fields) is not (facts.quarantined is not None):
        problems.append(f"it is {'' if 'u' in facts.fields else 'not '}in quarantine, and the index u says otherwise")
    elif facts.quarantined not in (None, created):
        problems.append(f"it was created at {created}, the index u says {facts.quarantined}")
    if "u" in facts.fields and flow.state.over:
        problems.append(f"it is {flow.state}, and in quarantine")
    wrong = [other for other in facts.retained if other is not listing or not flow.state.over]
    problems += [f"it is {flow.state}, and its removal is planned as {other}" for other in wrong]
    if flow.state.over and listing not in facts.retained:
        problems.append(f"it is {flow.state}, and its removal is not planned: it stays for ever")
    if not facts.is_named:
        problems.append(f"its workflow {flow.workflow} is not in the set of names, so listings pass it over")
    return problems


# What belongs to flows.


def is_stale(entry: Entry, flow: Flow | None) -> bool:
    """Whether no attempt waits for this entry of a queue, so that the poll that finds it drops it."""
    running = None if flow is None or flow.state.over else flow.running.get(entry.action_id)
    return running is None or running.attempt != entry.attempt or running.phase is not Phase.QUEUED


def timer_problem(key: TimerKey, flow: Flow | None) -> str | None:
    """What is wrong with a timer; None: nothing."""
    if flow is None:
        return "there is no such flow"
    if flow.state.over:
        return f"its flow is {flow.state}"
    running = flow.running.get(key.action_id)
    kind = TimerKind(key.kind)
    kind = TimerKind.TIMEOUT if kind is TimerKind.LOST else kind  # a lease exists only beside a timeout
    if running is None or running.attempt != key.attempt or PHASE_TIMERS.get(running.phase) is not kind:
        return f"its action {_current(running)}"
    return None


def _current(running: Running | None) -> str:
    return "does not run" if running is None else f"is in attempt {running.attempt}, {running.phase.name}"
