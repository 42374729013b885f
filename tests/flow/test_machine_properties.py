"""Random workflows, driven in every order: results, duplicates, late results, timeouts, events, pause, resume, cancel.

The world here plays the store and the workers: it keeps the queue, the timers and the fields that the effects
describe, and nothing else, so that whatever the machine forgets is lost.
"""

from __future__ import annotations

import random

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from orchy.actions import SYSTEM_ACTIONS
from orchy.flow import codec
from orchy.flow import effects as fx
from orchy.flow.definition import Action, ActionDefinition, ActionType, JoinMode, RetryPolicy, Workflow
from orchy.flow.draft import PHASE_TIMERS, Rules
from orchy.flow.events import (
    Cancel,
    Completed,
    DeferredDone,
    DeferredFailed,
    Event,
    EventReceived,
    Failed,
    NotReceived,
    Pause,
    Resume,
    Started,
    TimerFired,
    TimerKind,
)
from orchy.flow.execution import Flow, Phase, State
from orchy.flow.graph import Graph
from orchy.flow.machine import ACTION_LIFE, ActionEnd, Verdict, step
from orchy.store.timers import MOVABLE

RETRIES = 3


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    """Up to 10 actions in topological order, each reachable from the first, with forks, switches, joins and waits."""
    count = draw(st.integers(1, 10))
    kinds = draw(
        st.lists(
            st.sampled_from(["user", "user", "switch", "delay", "wait", "javascript"]), min_size=count, max_size=count
        )
    )
    edges: dict[int, dict[str, list[int]]] = {i: {} for i in range(1, count + 1)}
    for target in range(2, count + 1):
        sources = draw(st.lists(st.integers(1, target - 1), min_size=1, max_size=3, unique=True))
        for source in sources:
            kind = kinds[source - 1]
            outcomes = {"switch": ["a", "b", "default"], "wait": ["go", "default"]}.get(kind, ["default"])
            for outcome in draw(st.lists(st.sampled_from(outcomes), min_size=1, max_size=2, unique=True)):
                edges[source].setdefault(outcome, []).append(target)
    actions = {}
    for id, kind in enumerate(kinds, start=1):
        settings_ = {
            "user": {},
            "switch": {"expression": f"{{$.input.s{id}}}"},
            "delay": {"delaySeconds": 1},
            "wait": {"event": "go", "timeoutSeconds": 5},
            "javascript": {"expression": "1"},
        }[kind]
        actions[id] = Action(
            id,
            ActionType.USER if kind == "user" else ActionType.SYSTEM,
            f"user{id}" if kind == "user" else kind,
            next={outcome: tuple(targets) for outcome, targets in edges[id].items()},
            join=draw(st.sampled_from([JoinMode.ALL, JoinMode.ALL, JoinMode.ANY])),
            settings=settings_,
        )
    return Workflow("w", 1, actions, version=1)


def _copy_of(flow: Flow) -> Flow:
    """A copy whose parts may be changed."""
    return replace(
        flow,
        running=dict(flow.running),
        joins=dict(flow.joins),
        finished=dict(flow.finished),
        failed=dict(flow.failed),
        phases=dict(flow.phases),
    )


@attrs.define
class World:
    """What the effects of one flow have led to."""

    workflow: Workflow
    flow: Flow
    rules: Rules
    graph: Graph
    fields: dict[str, bytes] = attrs.field(factory=dict)
    queue: list[tuple[int, int]] = attrs.field(factory=list)  # attempts that no worker has yet
    handed_out: list[tuple[int, int]] = attrs.field(factory=list)  # attempts that some worker has, or had
    timers: set[tuple[TimerKind, int, int]] = attrs.field(factory=set)
    scripts: list[tuple[int, int]] = attrs.field(factory=list)
    counted: set[tuple[int, int]] = attrs.field(factory=set)
    runs: dict[int, int] = attrs.field(factory=dict)
    outcomes: dict[int, str] = attrs.field(factory=dict)
    ended: int = 0

    def take(self, event: Event) -> Verdict:
        before = self.flow
        copy = _copy_of(before)
        made = step(self.graph, before, event, self.rules)
        assert made == step(self.graph, copy, event, self.rules, consume=True)
        if before.state.over:
            assert replace(made.flow, late=before.late) == before, "a flow that is over has moved"
            assert made.verdict is not Verdict.APPLIED
        if made.verdict in (Verdict.DUPLICATE, Verdict.REFUSED):
            assert not made.effects
        if made.verdict is Verdict.APPLIED and isinstance(event, Completed | Failed):
            attempt = (event.run_id, event.attempt)
            assert attempt not in self.counted, f"{attempt} counted twice"
            self.counted.add(attempt)
        if made.verdict is Verdict.APPLIED and isinstance(event, NotReceived) and event.attempt == 1:
            self.runs[event.run_id] = 0  # no attempt has begun
        self.flow = made.flow
        for effect in made.effects:
            self.carry_out(effect)
        if isinstance(event, Started):
            self.fields = codec.encode_start(self.flow)
        else:
            written, removed = codec.encode_changes(self.flow, made.changes)
            self.fields.update(written)
            for name in removed:
                self.fields.pop(name, None)
        assert codec.decode_flow("f", self.fields) == replace(
            self.flow, phases={phase: n for phase, n in self.flow.phases.items() if n}
        ), "what the store would hold is not the flow"
        self.check()
        return made.verdict

    def carry_out(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Enqueue(run_id, _, attempt):
                assert self.flow.state is not State.PAUSED
                self.queue.append((run_id, attempt))
                self.count_run(run_id, attempt)
            case fx.SetTimer(kind, run_id, attempt):
                self.timers.add((kind, run_id, attempt))
                if kind in (TimerKind.DELAY, TimerKind.WAIT):
                    self.count_run(run_id, attempt)
            case fx.CancelTimer(kind, run_id, attempt):
                self.timers.discard((kind, run_id, attempt))
                if kind is TimerKind.TIMEOUT:
                    self.timers.discard((TimerKind.LOST, run_id, attempt))
            case fx.Deferred(run_id, attempt):
                self.scripts.append((run_id, attempt))
            case fx.Record(fx.RecordType.COMPLETED, run_id, _, _, detail):
                assert run_id not in self.outcomes, f"action {run_id} finished twice"
                self.outcomes[run_id] = detail or "default"
            case fx.End():
                self.ended += 1

    def count_run(self, run_id: int, attempt: int) -> None:
        if attempt == 1:
            self.runs[run_id] = self.runs.get(run_id, 0) + 1
            assert self.runs[run_id] == 1, f"action {run_id} ran twice"

    def check(self) -> None:
        flow = self.flow
        assert flow.state.over == (not flow.running)
        assert self.ended == flow.state.over
        live = {(PHASE_TIMERS[r.phase], id, r.attempt) for id, r in flow.running.items() if r.phase in PHASE_TIMERS}
        live |= {(TimerKind.LOST, *timer[1:]) for timer in live if timer[0] is TimerKind.TIMEOUT}
        assert self.timers <= live, "a timer is left of something that is over"
        needed = {timer for timer in live if timer[0] not in MOVABLE}
        assert needed <= self.timers, "something waits for a timer that nobody has set"
        for run_id, running in flow.running.items():
            assert run_id not in flow.finished
            if running.phase is Phase.QUEUED:
                assert (run_id, running.attempt) in self.queue + self.handed_out
            if running.phase is Phase.HELD:
                assert flow.state is State.PAUSED

    def hand_out(self, index: int) -> None:
        run_id, attempt = self.queue.pop(index % len(self.queue))
        running = self.flow.running.get(run_id)
        if running and running.attempt == attempt and running.phase is Phase.QUEUED:
            self.handed_out.append((run_id, attempt))
            self.timers.add((TimerKind.TIMEOUT, run_id, attempt))
            self.timers.add((TimerKind.LOST, run_id, attempt))


def expected_runs(workflow: Workflow, outcomes: dict[int, str]) -> set[int]:
    """Dead-path elimination in other words: in topological order, an action runs if an edge into it is taken."""
    taken = {workflow.root}
    for run_id in sorted(workflow.actions):
        if run_id in taken and run_id in outcomes:
            taken.update(workflow.actions[run_id].next.get(outcomes[run_id], ()))
    return taken


def start(workflow: Workflow, choice: str) -> World:
    inputs = {f"s{id}": choice for id in workflow.actions}
    definitions = {
        action.name: ActionDefinition(
            action.name, RETRIES, id % 2, RetryPolicy.BACKOFF if id % 3 else RetryPolicy.FIXED
        )
        for id, action in workflow.actions.items()
        if action.type is ActionType.USER
    }
    rules = Rules(SYSTEM_ACTIONS, definitions)
    world = World(workflow, Flow("f", "w", 1, inputs), rules, Graph.of(workflow))
    world.take(Started())
    return world


def drain(world: World, rng: random.Random, *, fail: bool) -> None:
    """Answer everything until the flow is over."""
    for _ in range(10_000):
        if world.flow.state.over:
            return
        if world.flow.state is State.PAUSED:
            world.take(Resume())
            continue
        moves = []
        if world.queue:
            moves.append("hand out")
        running = world.flow.running
        held = [a for a in world.handed_out if a[0] in running and running[a[0]].attempt == a[1]]
        if held:
            moves.append("answer")
        scripts = [s for s in world.scripts if s[0] in running and running[s[0]].phase is Phase.DEFERRED]
        if scripts:
            moves.append("evaluate")
        timers = sorted(timer for timer in world.timers if timer[0] not in MOVABLE)
        if timers:
            moves.append("fire")
        assert moves, f"the flow is stuck in {world.flow}"
        match rng.choice(moves):
            case "hand out":
                world.hand_out(rng.randrange(100))
            case "answer":
                run_id, attempt = rng.choice(held)
                if fail and rng.random() < 0.3:
                    world.take(Failed(run_id, attempt, "no"))
                else:
                    world.take(Completed(run_id, attempt, {"ok": attempt}))
            case "evaluate":
                run_id, attempt = rng.choice(scripts)
                world.take(DeferredDone(run_id, attempt, {"x": 1}))
            case "fire":
                world.take(TimerFired(*rng.choice(timers)))
    raise AssertionError("the flow did not end")


@settings(max_examples=150, deadline=None)
@given(workflows(), st.sampled_from(["a", "b", "other"]), st.integers(0, 2**32))
def test_a_flow_whose_actions_all_answer_runs_what_it_reaches_and_completes(
    workflow: Workflow, choice: str, seed: int
) -> None:
    fallback = all("default" in a.next or choice in a.next or a.name != "switch" for a in workflow.actions.values())
    workflow = workflow if fallback else attrs.evolve(workflow, actions=_with_defaults(workflow))
    world = start(workflow, choice)
    drain(world, random.Random(seed), fail=False)
    assert world.flow.state is State.COMPLETED
    assert set(world.flow.finished) == expected_runs(workflow, world.outcomes)
    assert not world.timers
    assert not world.flow.joins


def _with_defaults(workflow: Workflow) -> dict[int, Action]:
    return {
        id: attrs.evolve(action, next={"default": (), **action.next}) if action.name == "switch" else action
        for id, action in workflow.actions.items()
    }


@settings(max_examples=300, deadline=None)
@given(workflows(), st.sampled_from(["a", "b", "other"]), st.integers(0, 2**32), st.data())
def test_no_order_of_results_timers_and_commands_breaks_a_rule(
    workflow: Workflow, choice: str, seed: int, data: st.DataObject
) -> None:
    world = start(workflow, choice)
    users = [id for id, action in workflow.actions.items() if action.type is ActionType.USER]
    for number in range(data.draw(st.integers(0, 40))):
        match data.draw(
            st.sampled_from(
                [
                    "hand out",
                    "complete",
                    "fail",
                    "any result",
                    "fire",
                    "stray timer",
                    "not received",
                    "script",
                    "event",
                    "pause",
                    "resume",
                    "cancel",
                ]
            )
        ):
            case "hand out" if world.queue:
                world.hand_out(data.draw(st.integers(0, 9)))
            case "complete" if world.handed_out:  # maybe the same one twice, or one that is over
                world.take(Completed(*data.draw(st.sampled_from(world.handed_out)), {"n": number}))
            case "fail" if world.handed_out:
                world.take(Failed(*data.draw(st.sampled_from(world.handed_out)), "no"))
            case "any result" if users:
                world.take(Completed(data.draw(st.sampled_from(users)), data.draw(st.integers(0, 4)), None))
            case "fire" if world.timers:
                world.take(TimerFired(*data.draw(st.sampled_from(sorted(world.timers)))))
            case "not received" if world.handed_out:
                world.take(NotReceived(*data.draw(st.sampled_from(world.handed_out))))
            case "stray timer":
                kind = data.draw(st.sampled_from(TimerKind))
                timer = (kind, data.draw(st.sampled_from(sorted(workflow.actions))), data.draw(st.integers(1, 3)))
                phase_kind = TimerKind.TIMEOUT if kind is TimerKind.LOST else kind
                if timer not in world.timers:
                    running = world.flow.running.get(timer[1])
                    if (
                        running is None
                        or PHASE_TIMERS.get(running.phase) is not phase_kind
                        or running.attempt != timer[2]
                    ):
                        assert world.take(TimerFired(*timer)) is Verdict.STALE
            case "script" if world.scripts:
                run_id, attempt = data.draw(st.sampled_from(world.scripts))
                if data.draw(st.booleans()):
                    world.take(DeferredDone(run_id, attempt, {"n": number}))
                else:
                    world.take(DeferredFailed(run_id, attempt, "thrown"))
            case "event":
                name = data.draw(st.sampled_from(["go", "other"]))
                kept = len(world.flow.kept_events)
                verdict = world.take(EventReceived(name, number, f"e{number}"))
                assert (verdict is Verdict.REFUSED) == (
                    verdict is not Verdict.KEPT and world.ended and verdict is not Verdict.APPLIED
                )
                if verdict is Verdict.KEPT:
                    assert len(world.flow.kept_events) == kept + 1
                    assert world.take(EventReceived(name, number, f"e{number}")) is Verdict.KEPT_BEFORE
                    assert len(world.flow.kept_events) == kept + 1
            case "pause":
                world.take(Pause())
            case "resume":
                world.take(Resume())
            case "cancel" if data.draw(st.integers(0, 5)) == 0:
                world.take(Cancel())
                assert world.flow.state.over
    drain(world, random.Random(seed), fail=True)
    assert not world.timers
    assert set(world.flow.finished) <= expected_runs(workflow, world.outcomes)
    for run_id in users:
        world.take(Completed(run_id, 1, None))  # nothing moves a flow after its end


def test_each_row_of_the_action_table_is_there_once_and_leads_somewhere() -> None:
    assert len({(row.phase, row.trigger) for row in ACTION_LIFE}) == len(ACTION_LIFE)
    reached = {target for row in ACTION_LIFE for target in row.leads_to}
    assert set(ActionEnd) <= reached
    assert {row.phase for row in ACTION_LIFE} == set(Phase)
