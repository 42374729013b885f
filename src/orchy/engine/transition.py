"""From events through steps to the one commit that makes their effects durable."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol, assert_never

from orchy.errors import InvalidInput
from orchy.flow import codec
from orchy.flow import effects as fx
from orchy.flow.budget import Meter
from orchy.flow.definition import JSON
from orchy.flow.draft import Changes, Rules
from orchy.flow.effects import Deferred, Effect
from orchy.flow.events import Event, Overgrown, Started, TimerKind, Undeliverable
from orchy.flow.execution import Flow, Phase, State
from orchy.flow.graph import Graph
from orchy.flow.machine import Step, Verdict, step
from orchy.flow.runs import RunId, parse_run
from orchy.store.flows import Commit, Listing
from orchy.store.queues import QueueEntry
from orchy.store.timers import MOVABLE, TimerKey, TimerSetting

_OUTPUT_PREFIX = "o:"
_NO_CHANGES = Changes()


class EncodeAction(Protocol):
    """Encodes an attempt for workers."""

    def __call__(
        self,
        *,
        workflow: str,
        flow_id: str,
        action_id: RunId,
        name: str,
        attempt: int,
        parameters: JSON,
        timeout_seconds: float,
    ) -> bytes:
        """An encoded `Action` message."""
        ...


class Transition:
    """A flow going through one or more steps to one commit."""

    def __init__(self, graph: Graph, flow: Flow, rules: Rules, meter: Meter | None = None) -> None:
        self._graph = graph
        self.meter = meter or Meter()
        self._rules = rules
        self.before = flow
        self.flow = flow
        self.effects: list[Effect] = []
        self.changes = _NO_CHANGES
        self.bodies: dict[tuple[int, int], bytes] = {}  # by action and attempt
        self._deferred: deque[Deferred] = deque()

    def take(self, event: Event) -> Verdict:
        """Step once more. Only `before` is shared with the cache; later flows may be mutated."""
        made: Step = step(
            self._graph, self.flow, event, self._rules, consume=self.flow is not self.before, meter=self.meter
        )
        if made.verdict is Verdict.STALE:
            return Verdict.STALE
        self.flow = made.flow
        self.effects.extend(made.effects)
        self.changes = made.changes if self.changes is _NO_CHANGES else self.changes | made.changes
        for effect in made.effects:
            if type(effect) is Deferred:
                self._deferred.append(effect)
        return made.verdict

    def outgrown(self, commit: Commit, size_bytes: int, bytes_max: int) -> Transition:
        """A transition that fails the flow instead, as the outputs of `commit` would take it over its size limit."""
        outputs = {
            name: len(value) - value.index(b":") - 1
            for name, value in commit.fields.items()
            if name.startswith(_OUTPUT_PREFIX)
        }
        largest = max(outputs, key=outputs.__getitem__)
        run_id = parse_run(largest.removeprefix(_OUTPUT_PREFIX))
        other = Transition(self._graph, self.before, self._rules)
        if commit.listed_before is None:
            other.take(Started())
        other.take(
            Overgrown(
                run_id,
                self.flow.finished[run_id].attempt,
                f"its output is {outputs[largest]:,} bytes of JSON, and the flow would come to {size_bytes:,} bytes;"
                f" the limit is {bytes_max:,} (--flow-limit-bytes)",
            )
        )
        return other

    def encode(self, encode_action: EncodeAction) -> None:
        """Encode the attempts for workers. One that can't be encoded fails the flow."""
        for item in [effect for effect in self.effects if isinstance(effect, fx.Enqueue)]:
            key = (item.run_id, item.attempt)
            if key in self.bodies or not _is_queued(self.flow, item):
                continue
            try:
                self.bodies[key] = encode_action(
                    workflow=self.flow.workflow,
                    flow_id=self.flow.id,
                    action_id=item.run_id,
                    name=item.name,
                    attempt=item.attempt,
                    parameters=item.parameters,
                    timeout_seconds=item.timeout_seconds,
                )
            except InvalidInput as error:
                self.take(Undeliverable(item.run_id, item.attempt, f"its parameters can't be sent: {error}"))

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.effects)

    @property
    def has_deferred(self) -> bool:
        """Whether there is deferred work."""
        return bool(self._deferred)

    def next_deferred(self) -> Deferred | None:
        """The next deferred work that is not obsolete; None if there is none."""
        while self._deferred:
            work = self._deferred.popleft()
            running = self.flow.running.get(work.run_id)
            if running and running.phase is Phase.DEFERRED and running.attempt == work.attempt:
                return work
        return None


def has_outputs(commit: Commit) -> bool:
    """Whether the commit adds outputs of actions."""
    return any(name.startswith(_OUTPUT_PREFIX) for name in commit.fields)


def to_listing(state: State) -> Listing:
    """Where a flow in this state is listed."""
    match state:
        case State.COMPLETED:
            return Listing.COMPLETED
        case State.FAILED:
            return Listing.FAILED
        case State.CANCELLED:
            return Listing.CANCELLED
        case _:
            return Listing.ACTIVE


def build_commit(
    transition: Transition,
    *,
    partition: int,
    expected_version: int,
    retain_ms: int,
) -> Commit:
    """The commit that takes a flow from `expected_version` (0: it does not exist) to the end of its transition.

    What one step sets and a later one cancels appears only in the history.
    """
    flow = transition.flow
    queued: list[fx.Enqueue] = []
    timers: dict[TimerKey, int] = {}
    cancelled: dict[TimerKey, None] = {}
    fired: list[TimerKey] = []
    history: list[bytes] = []
    unpark = False
    end: fx.End | None = None
    for effect in transition.effects:
        match effect:
            case fx.Enqueue():
                queued.append(effect)
            case fx.SetTimer(kind, run_id, attempt, after_seconds):
                timers[TimerKey(kind, run_id, attempt, flow.id)] = _to_ms(after_seconds)
            case fx.CancelTimer(kind, run_id, attempt, is_fired):
                key = TimerKey(kind, run_id, attempt, flow.id)
                if is_fired and kind in MOVABLE:
                    fired.append(key)
                if timers.pop(key, None) is None:
                    cancelled[key] = None
            case fx.Deferred(run_id, attempt):
                pass
            case fx.Unpark():
                unpark = True
            case fx.Record():
                history.append(codec.encode_record(effect))
            case fx.End():
                end = effect
            case never:
                assert_never(never)
    for key in timers:
        if key.kind is TimerKind.DEFERRED:
            timers[key] = 0  # beyond the limit of one commit: continue at once
    if expected_version:
        fields, removed = codec.encode_changes(flow, transition.changes)
    else:
        fields, removed = codec.encode_start(flow), []
    enqueue = [
        QueueEntry(
            item.name,
            item.run_id,
            item.attempt,
            _to_ms(item.timeout_seconds),
            transition.bodies[item.run_id, item.attempt],
        )
        for item in queued
        if _is_queued(flow, item)
    ]
    return Commit(
        partition=partition,
        flow_id=flow.id,
        workflow=flow.workflow,
        expected_version=expected_version,
        fields=fields,
        removed_fields=removed,
        history=history,
        listed_before=to_listing(transition.before.state) if expected_version else None,
        listed_after=to_listing(flow.state),
        enqueue=enqueue,
        set_timers=[TimerSetting(key, after_ms) for key, after_ms in timers.items()],
        cancel_timers=[key for key in cancelled if key not in timers],
        fired_timers=fired,
        unpark=unpark and not flow.state.over,
        retain_ms=None if end is None else 0 if end.delete else max(1, retain_ms),
    )


def _is_queued(flow: Flow, item: fx.Enqueue) -> bool:
    running = flow.running.get(item.run_id)
    return running is not None and running.phase is Phase.QUEUED and running.attempt == item.attempt


def _to_ms(seconds: float) -> int:
    """Rounded up, so that no timer fires early."""
    return math.ceil(seconds * 1000)
