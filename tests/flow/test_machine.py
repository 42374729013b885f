"""The flow machine, one property in each test; `test_machine_properties` tries all orders."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from orchy.actions import SYSTEM_ACTIONS
from orchy.errors import InvalidInput
from orchy.flow import codec, retry
from orchy.flow import effects as fx
from orchy.flow.budget import Meter, OverBudget
from orchy.flow.definition import Action, ActionDefinition, ActionType, OnEnd, RetryPolicy, Workflow
from orchy.flow.draft import Changes, Rules
from orchy.flow.events import (
    Cancel,
    Completed,
    DeferredDone,
    DeferredFailed,
    EventReceived,
    Failed,
    NotReceived,
    Pause,
    Resume,
    Started,
    TimerFired,
    TimerKind,
    Undeliverable,
)
from orchy.flow.execution import Finished, Flow, Join, KeptEvent, Phase, Running, State
from orchy.flow.graph import Graph
from orchy.flow.machine import Verdict, step
from orchy.flow.recent import RecentEvents


def user(id, *following, **more):
    return Action(id, ActionType.USER, f"user{id}", next={"default": following} if following else {}, **more)


def system(id, name, next=None, **settings):
    return Action(id, ActionType.SYSTEM, name, next=next or {}, settings=settings)


class Drive:
    """A flow, and the effects of its last step."""

    def __init__(self, *actions, definitions=(), **more):
        workflow = Workflow("w", actions[0].id, {action.id: action for action in actions}, version=1, **more)
        self.graph = Graph.of(workflow)
        self.rules = Rules(SYSTEM_ACTIONS, {definition.name: definition for definition in definitions})
        self.flow = Flow("f", "w", 1, {"n": 1})
        self.effects = ()
        self.take(Started())

    def take(self, event):
        made = step(self.graph, self.flow, event, self.rules)
        self.flow, self.effects = made.flow, made.effects
        return made.verdict

    def made(self, kind):
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def records(self):
        return [effect.type for effect in self.made(fx.Record)]


def test_a_user_action_is_enqueued_with_its_parameters():
    drive = Drive(user(1, parameters={"n": "{$.input.n}", "x": "{$.input.x}"}))
    (enqueue,) = drive.made(fx.Enqueue)
    assert enqueue == fx.Enqueue(1, "user1", 1, {"n": 1, "x": None}, 3600)
    assert fx.RecordType.MISSING in drive.records()
    assert drive.flow.state is State.RUNNING


def test_a_result_leads_on_and_the_last_one_ends_the_flow():
    drive = Drive(user(1, 2), user(2))
    assert drive.take(Completed(1, 1, {"a": 1}, "w1")) is Verdict.APPLIED
    assert [enqueue.run_id for enqueue in drive.made(fx.Enqueue)] == [2]
    assert drive.made(fx.CancelTimer) == [fx.CancelTimer(TimerKind.TIMEOUT, 1, 1)]
    assert drive.take(Completed(2, 1, None)) is Verdict.APPLIED
    assert drive.flow.state is State.COMPLETED
    assert drive.made(fx.End) == [fx.End(delete=False)]


@pytest.mark.parametrize(
    ("event", "policy"), [(Completed(1, 1, None), "on_success"), (Failed(1, 1, "no"), "on_failure")]
)
def test_a_flow_that_is_to_be_deleted_says_so(event, policy):
    drive = Drive(user(1), **{policy: OnEnd.DELETE})
    drive.take(event)
    assert drive.made(fx.End) == [fx.End(delete=True)]


def test_a_cancelled_flow_is_kept_whatever_the_policies_say():
    drive = Drive(user(1), on_success=OnEnd.DELETE, on_failure=OnEnd.DELETE)
    drive.take(Cancel())
    assert drive.made(fx.End) == [fx.End(delete=False)]


def test_results_that_do_not_count():
    drive = Drive(user(1, 2), user(2), definitions=[ActionDefinition("user1", 3)])
    assert drive.take(Failed(1, 1, "no")) is Verdict.APPLIED
    before = drive.flow
    assert drive.take(Failed(1, 1, "no")) is Verdict.DUPLICATE
    assert drive.take(Completed(1, 1, None)) is Verdict.LATE
    assert drive.take(Completed(1, 9, None)) is Verdict.LATE
    assert drive.take(Completed(2, 1, None)) is Verdict.LATE
    assert drive.take(Failed(2, 1, "no")) is Verdict.LATE
    assert replace(drive.flow, late={}) == before
    assert drive.take(Completed(1, 2, None)) is Verdict.APPLIED
    assert drive.take(Completed(1, 2, None)) is Verdict.DUPLICATE
    assert drive.take(Failed(1, 2, "no")) is Verdict.LATE


@pytest.mark.parametrize("run_id", [2, 77])
def test_a_result_that_no_worker_can_have_is_refused(run_id):
    drive = Drive(user(1, 2), system(2, "delay", delaySeconds=1))
    with pytest.raises(InvalidInput):
        drive.take(Completed(run_id, 1, None))


def test_a_lost_worker_uses_up_an_attempt_and_is_named():
    drive = Drive(user(1), definitions=[ActionDefinition("user1", 2)])
    drive.take(TimerFired(TimerKind.LOST, 1, 1, "w1"))
    assert fx.Record(fx.RecordType.WORKER_LOST, 1, 1, "w1") in drive.effects
    assert fx.CancelTimer(TimerKind.LOST, 1, 1, fired=True) in drive.effects
    assert fx.CancelTimer(TimerKind.TIMEOUT, 1, 1) in drive.effects
    assert [enqueue.attempt for enqueue in drive.made(fx.Enqueue)] == [2]
    assert drive.take(TimerFired(TimerKind.LOST, 1, 1)) is Verdict.STALE
    drive.take(TimerFired(TimerKind.LOST, 1, 2))
    assert drive.flow.state is State.FAILED
    assert drive.flow.error.endswith("failed on attempt 2: Worker.Lost: the worker that had it was lost")
    named = Drive(user(1))
    named.take(TimerFired(TimerKind.LOST, 1, 1, "w1"))
    assert "Worker.Lost: the worker w1 that had it was lost" in named.flow.error


def test_what_is_handed_out_again_may_cost_more_than_a_short_step_has():
    """A step is tried with a small budget first; exceeding that is not an error in Orchy."""
    drive = Drive(user(1, parameters={"n": ["{$.input..*}"] * 20}))
    made = step(drive.graph, drive.flow, NotReceived(1, 1), drive.rules, meter=Meter(10, bounds_actions=True))
    assert made.verdict is Verdict.APPLIED
    assert "its parameters can't be made" in made.flow.error
    spent = Meter(10, bounds_actions=True)
    with pytest.raises(OverBudget):
        spent.visit(10**9)
    postponed = step(drive.graph, drive.flow, NotReceived(1, 1), drive.rules, meter=spent)
    assert postponed.flow.running[1].phase is Phase.RETRY


def test_what_its_worker_never_received_is_handed_out_again_and_uses_up_nothing():
    drive = Drive(user(1, parameters={"n": "{$.input.n}"}))
    assert drive.take(NotReceived(1, 1)) is Verdict.APPLIED
    assert fx.RecordType.GIVEN_BACK in drive.records()
    assert [(enqueue.attempt, enqueue.parameters) for enqueue in drive.made(fx.Enqueue)] == [(1, {"n": 1})]
    drive.take(Pause())
    drive.take(NotReceived(1, 1))
    assert not drive.made(fx.Enqueue)
    drive.take(Resume())
    assert [enqueue.attempt for enqueue in drive.made(fx.Enqueue)] == [1]
    drive.take(Completed(1, 1, None))
    assert drive.flow.state is State.COMPLETED


def test_retries_with_and_without_a_wait():
    drive = Drive(user(1), definitions=[ActionDefinition("user1", 3, 5, RetryPolicy.FIXED, 7)])
    drive.take(Failed(1, 1, "no"))
    assert drive.made(fx.SetTimer) == [fx.SetTimer(TimerKind.RETRY, 1, 2, 5)]
    drive.take(TimerFired(TimerKind.RETRY, 1, 2))
    (enqueue,) = drive.made(fx.Enqueue)
    assert (enqueue.attempt, enqueue.timeout_seconds) == (2, 7)
    drive.take(TimerFired(TimerKind.TIMEOUT, 1, 2))
    assert fx.RecordType.TIMED_OUT in drive.records()
    drive.take(TimerFired(TimerKind.RETRY, 1, 3))
    drive.take(TimerFired(TimerKind.TIMEOUT, 1, 3))
    assert drive.flow.state is State.FAILED
    assert "action 1 (user1) failed on attempt 3" in drive.flow.error
    at_once = Drive(user(1), definitions=[ActionDefinition("user1", 2)])
    at_once.take(Failed(1, 1, "no"))
    assert [enqueue.attempt for enqueue in at_once.made(fx.Enqueue)] == [2]


@pytest.mark.parametrize(
    ("definition", "waits"),
    [
        (ActionDefinition("a", 0, 3), [None]),
        (ActionDefinition("a", 1, 3), [None]),
        (ActionDefinition("a", 3, 3), [3, 3, None]),
        (ActionDefinition("a", 3, 3, RetryPolicy.BACKOFF), [6, 9, None]),
    ],
)
def test_how_long_to_wait_after_an_attempt(definition, waits):
    assert [retry.seconds_before_next(definition, attempt) for attempt in range(1, len(waits) + 1)] == waits


def test_a_stray_timer_only_has_to_be_forgotten():
    drive = Drive(user(1))
    for timer in (
        TimerFired(TimerKind.DELAY, 1, 1),
        TimerFired(TimerKind.TIMEOUT, 1, 2),
        TimerFired(TimerKind.WAIT, 5, 1),
    ):
        assert drive.take(timer) is Verdict.STALE
        assert drive.effects == (fx.CancelTimer(timer.kind, timer.run_id, timer.attempt, fired=True),)


def test_waits_take_events_that_came_before_or_come_later_or_none():
    def make():
        return Drive(
            user(1, 2), system(2, "wait", {"go": (3,), "default": (4,)}, event="go", timeoutSeconds=9), user(3), user(4)
        )

    early, late, never = make(), make(), make()
    assert early.take(EventReceived("other", 0, "e0")) is Verdict.KEPT
    assert early.take(EventReceived("go", "data", "e1")) is Verdict.KEPT
    assert early.take(EventReceived("go", "data", "e1")) is Verdict.KEPT_BEFORE
    early.take(Completed(1, 1, None))
    assert early.flow.finished[2] == Finished(1, "data")
    assert early.flow.kept_events == (KeptEvent(1, "other", "e0", b"0"),)
    assert early.take(EventReceived("go", "data", "e1")) is Verdict.KEPT_BEFORE
    late.take(Completed(1, 1, None))
    assert late.flow.state is State.WAITING_EVENT
    assert late.made(fx.SetTimer) == [fx.SetTimer(TimerKind.WAIT, 2, 1, 9)]
    assert late.take(EventReceived("go", 5, "e1")) is Verdict.APPLIED
    assert 3 in late.flow.running
    assert late.take(EventReceived("go", 5, "e1")) is Verdict.DUPLICATE
    never.take(Completed(1, 1, None))
    assert never.take(TimerFired(TimerKind.WAIT, 2, 1)) is Verdict.APPLIED
    assert 4 in never.flow.running


def test_a_wait_without_a_timeout_sets_no_timer():
    drive = Drive(system(1, "wait", event="go"))
    assert drive.made(fx.SetTimer) == []
    assert drive.take(EventReceived("go", None, "e")) is Verdict.APPLIED
    assert drive.flow.state is State.COMPLETED
    assert drive.take(EventReceived("go", None, "e2")) is Verdict.REFUSED


def test_one_event_ends_one_of_two_waits_for_it():
    drive = Drive(user(1, 2, 3), system(2, "wait", event="go"), system(3, "wait", event="go"))
    drive.take(Completed(1, 1, None))
    drive.take(EventReceived("go", None, "e"))
    assert set(drive.flow.running) == {3}


def test_a_switch_takes_a_branch_and_the_other_is_dead():
    drive = Drive(system(1, "switch", {"1": (2,), "default": (3,)}, expression="{$.input.n}"), user(2), user(3))
    assert set(drive.flow.running) == {2}
    drive.take(Completed(2, 1, None))
    assert drive.flow.state is State.COMPLETED


def test_a_switch_without_a_branch_for_its_value_fails_the_flow():
    drive = Drive(system(1, "switch", {"9": (2,)}, expression="{$.input.n}"), user(2))
    assert drive.flow.state is State.FAILED
    assert "'1'" in drive.flow.error


def test_a_switch_whose_path_finds_nothing_tells_which():
    drive = Drive(system(1, "switch", {"default": (2,)}, expression="{$.input.nope}"), user(2))
    (missing,) = [record for record in drive.made(fx.Record) if record.type is fx.RecordType.MISSING]
    assert missing.detail == ["{$.input.nope}"]


def test_a_delay_waits():
    drive = Drive(system(1, "delay", {"default": (2,)}, delaySeconds=1.5), user(2))
    assert drive.made(fx.SetTimer) == [fx.SetTimer(TimerKind.DELAY, 1, 1, 1.5)]
    assert drive.flow.state is State.WAITING_DELAY
    drive.take(TimerFired(TimerKind.DELAY, 1, 1))
    assert set(drive.flow.running) == {2}


def test_a_script_is_asked_for_again_when_its_answer_was_lost():
    drive = Drive(system(1, "javascript", expression="1"))
    assert drive.made(fx.Deferred) == [fx.Deferred(1, 1, "javascript", "1")]
    drive.take(TimerFired(TimerKind.DEFERRED, 1, 1))
    assert drive.made(fx.Deferred) == [fx.Deferred(1, 1, "javascript", "1")]
    assert drive.take(DeferredDone(1, 2, {})) is Verdict.STALE
    assert drive.take(DeferredDone(1, 1, {"a": 1})) is Verdict.APPLIED
    assert drive.flow.finished == {1: Finished(1, {"a": 1})}


def test_a_script_that_fails_fails_the_flow():
    drive = Drive(user(1, 2, 3), system(2, "javascript", expression="1"), user(3))
    drive.take(Completed(1, 1, None))
    assert drive.take(DeferredFailed(2, 1, "boo (line 1)")) is Verdict.APPLIED
    assert drive.flow.state is State.FAILED
    assert "boo (line 1)" in drive.flow.error
    assert drive.flow.running == {}


def test_an_attempt_that_can_not_be_delivered_fails_the_flow():
    drive = Drive(user(1, 2), user(2))
    assert drive.take(Undeliverable(1, 2, "too deep")) is Verdict.STALE
    assert drive.take(Undeliverable(1, 1, "too deep")) is Verdict.APPLIED
    assert drive.flow.state is State.FAILED
    assert "too deep" in drive.flow.error


def test_pause_holds_what_is_reached_and_resume_starts_it():
    drive = Drive(
        user(1, 2, 3, 4, 5),
        system(2, "switch", {"1": (6,)}, expression="{$.input.n}"),
        system(3, "switch", {"nope": ()}, expression="{$.input.n}"),
        user(4),
        system(5, "delay", delaySeconds=1),
        user(6),
    )
    assert drive.take(Resume()) is Verdict.DUPLICATE
    assert drive.take(Pause()) is Verdict.APPLIED
    assert drive.take(Pause()) is Verdict.DUPLICATE
    drive.take(Completed(1, 1, None))
    assert {running.phase for running in drive.flow.running.values()} == {Phase.HELD}
    assert drive.flow.state is State.PAUSED
    assert drive.take(Resume()) is Verdict.APPLIED
    assert drive.made(fx.Unpark)
    assert drive.flow.state is State.FAILED  # the second switch has no branch, and fails the flow
    assert drive.flow.running == {}


def test_a_paused_flow_whose_last_action_ends_is_over():
    drive = Drive(user(1))
    drive.take(Pause())
    drive.take(Completed(1, 1, None))
    assert drive.flow.state is State.COMPLETED


def test_commands_to_a_flow_that_is_over():
    drive = Drive(user(1, 2), user(2))
    assert drive.take(Cancel()) is Verdict.APPLIED
    assert drive.take(Cancel()) is Verdict.DUPLICATE
    assert drive.take(Pause()) is Verdict.REFUSED
    assert drive.take(Resume()) is Verdict.REFUSED


def test_a_flow_comes_back_from_its_fields_as_it_was():
    flow = Flow(
        "f",
        "w",
        3,
        {"x": [1, None, "ä"]},
        State.PAUSED,
        running={1: Running(2, Phase.WAIT, "a:b"), 5: Running(1, Phase.QUEUED)},
        joins={7: Join(1, 2)},
        finished={2: Finished(3, {"a": 2**70}), 3: Finished(1, None)},
        failed={2: 2},
        phases={Phase.WAIT: 1, Phase.QUEUED: 1},
        kept_events=(KeptEvent(4, "e", "id", b'{"d":1}'), KeptEvent(11, "f", "other", b"null")),
        recent_events=RecentEvents(3, ({"id": False, "+x,": True}, {"other": False})),
        late={1: (1,), 2: (1, 7)},
        error="why",
    )
    fields = codec.encode_start(flow)
    assert codec.decode_flow("f", {**fields, "other": b"the store's own", "s:1": b"of a later version"}) == flow
    assert fields["r:5"].startswith(b"1:q")
    assert "p" in fields


def test_what_several_steps_changed_is_one_commit():
    first = Changes(frozenset({1}), frozenset({2}), frozenset({3}), frozenset({4}))
    second = Changes(frozenset({5}), fields=frozenset({"k:1"}))
    assert first | second == Changes(
        frozenset({1, 5}), frozenset({2}), frozenset({3}), frozenset({4}), frozenset({"k:1"})
    )


def test_history_entries_come_back_as_they_were():
    for record in (
        fx.Record(fx.RecordType.STARTED),
        fx.Record(fx.RecordType.COMPLETED, 1, 2, "w", "x"),
        fx.Record(fx.RecordType.MISSING, 1, 1, detail=["a"]),
        fx.Record(fx.RecordType.RETRY, 1, 1, detail=0),
    ):
        parts = codec.decode_record(codec.encode_record(record))
        assert fx.Record(fx.RecordType(parts[0]), *parts[1:]) == record
    assert codec.encode_record(fx.Record(fx.RecordType.STARTED)) == b'["S"]'
