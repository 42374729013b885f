"""An error in Orchy affects only the flow that meets it, and after five times the flow's timers are set aside."""

from __future__ import annotations

import pytest
import trio

from orchy.engine.orchestrator import Result
from orchy.engine.quarantine import FAILURES_MAX, Failures
from orchy.engine.starts import StartRequest
from orchy.errors import FlowFault, NotFound, StoreUnavailable, WrongState
from orchy.flow.draft import Draft
from orchy.flow.effects import RecordType
from orchy.flow.execution import State
from orchy.flow.machine import Verdict
from orchy.partition.limits import RETENTION_TIMING, TIMER_TIMING
from orchy.partition.retention import run_retention
from orchy.ring import partition_of
from orchy.telemetry import unexpected as unforeseen

WAIT = {"id": 3, "type": "system", "name": "wait", "event": "go"}
DELAY = {"id": 2, "type": "system", "name": "delay", "delaySeconds": 1, "next": {"default": [3]}}


@pytest.fixture
def bug(monkeypatch):
    """A bug that flows with the input {"bad": True} hit when they reach a wait. Calling the fixture fixes it."""
    wait = Draft.wait
    broken = [True]

    def buggy(self, *args):
        if broken and self.before.input == {"bad": True}:
            raise KeyError("a bug")
        return wait(self, *args)

    monkeypatch.setattr(Draft, "wait", buggy)
    return broken.clear


async def save(engine, user, first=DELAY):
    await engine.save({**first, "id": 1, "next": {"default": [3]}}, WAIT)


async def start(engine, flow_id, *, bad):
    return await engine.execute("w", {"bad": bad}, flow_id=flow_id)


async def test_a_flow_whose_timer_meets_a_bug_is_quarantined_and_others_go_on(autojump_clock, engine, user, bug):
    await save(engine, user)
    before = unforeseen.counts()["flow"]
    await start(engine, "bad", bad=True)
    await start(engine, "good", bad=False)
    await trio.sleep(2)
    assert (await engine.queries.flow("good")).state is State.WAITING_EVENT
    bad = await engine.queries.flow("bad")
    assert (bad.state, bad.quarantine) == (State.WAITING_DELAY, None)
    await trio.sleep(FAILURES_MAX * TIMER_TIMING.lease_ms / 1000)
    bad = await engine.queries.flow("bad")
    assert bad.state is State.WAITING_DELAY
    assert bad.quarantine.error == "KeyError: 'a bug'"
    assert unforeseen.counts()["flow"] - before == FAILURES_MAX
    await trio.sleep(1_000)
    assert unforeseen.counts()["flow"] - before == FAILURES_MAX, "its timer does not come again"
    assert [flow.id for flow in (await engine.queries.flows(None, None, 10, None, True)).flows] == ["bad"]
    assert (await engine.queries.flows("other", None, 10, None, True)).flows == ()
    history = await engine.queries.history("bad")
    assert (history[-1].type, history[-1].detail) == (RecordType.QUARANTINED, "KeyError: 'a bug'")


async def test_a_release_lets_it_go_on(autojump_clock, engine, user, bug):
    await save(engine, user)
    await start(engine, "bad", bad=True)
    await trio.sleep(60)
    assert (await engine.queries.flow("bad")).quarantine
    bug()
    await engine.orchestrator.release("bad", "mended")
    await trio.sleep(2)
    view = await engine.queries.flow("bad")
    assert (view.state, view.quarantine) == (State.WAITING_EVENT, None)
    types = [line.type for line in await engine.queries.history("bad")]
    assert types.count(RecordType.RELEASED) == 1
    with pytest.raises(WrongState, match="not in quarantine"):
        await engine.orchestrator.release("bad", "again")
    with pytest.raises(NotFound):
        await engine.orchestrator.release("nobody", "x")


async def test_one_that_is_released_too_early_comes_back_into_quarantine(autojump_clock, engine, user, bug):
    await save(engine, user)
    await start(engine, "bad", bad=True)
    await trio.sleep(60)
    await engine.orchestrator.release("bad", "let us see")
    await trio.sleep(60)
    assert (await engine.queries.flow("bad")).quarantine


async def test_a_result_is_not_lost_and_those_of_other_flows_are_taken(autojump_clock, engine, user, bug):
    await save(engine, user, user(1, "a"))
    for flow_id, bad in (("good-1", False), ("bad", True), ("good-2", False)):
        await start(engine, flow_id, bad=bad)
    results = [Result(flow_id, 1, 1, {}) for flow_id in ("good-1", "bad", "good-2")]
    await engine.poll("a")
    first, second, third = await engine.orchestrator.push_all(results)
    assert (first, third) == (Verdict.APPLIED, Verdict.APPLIED)
    assert isinstance(second, FlowFault)
    with pytest.raises(FlowFault, match="error in Orchy"):
        await engine.orchestrator.push(results[1])
    bug()
    assert await engine.orchestrator.push(results[1]) is Verdict.APPLIED


async def test_of_events_that_come_together_only_the_one_to_blame_fails(autojump_clock, engine, user, bug):
    await engine.save({**user(1, "a"), "next": {"default": [3]}}, WAIT)
    await start(engine, "bad", bad=True)
    await engine.poll("a")
    outcomes = {}

    async def push():
        with pytest.raises(FlowFault):
            await engine.orchestrator.push(Result("bad", 1, 1, {}))
        outcomes["push"] = "refused"

    async def deliver():
        outcomes["event"] = (await engine.orchestrator.deliver("w", "bad", "go", 1)).delivered

    async with trio.open_nursery() as nursery:
        nursery.start_soon(push)
        nursery.start_soon(deliver)
    assert outcomes == {"push": "refused", "event": False}


async def test_letters_of_one_batch_are_tried_one_by_one(autojump_clock, engine, user, bug):
    await engine.save({**user(1, "a"), "next": {"default": [3]}}, WAIT)
    await start(engine, "bad", bad=True)
    await engine.poll("a")
    answers = await engine.orchestrator.push_all([Result("bad", 1, 7, {}), Result("bad", 1, 1, {})])
    assert answers[0] is Verdict.LATE
    assert isinstance(answers[1], FlowFault)


async def test_a_flow_in_quarantine_can_be_cancelled(autojump_clock, engine, user, bug):
    await save(engine, user)
    await start(engine, "bad", bad=True)
    await trio.sleep(60)
    assert (await engine.orchestrator.cancel("w", "bad")).flow.state is State.CANCELLED
    assert (await engine.queries.flow("bad")).quarantine is None
    assert (await engine.queries.flows(None, None, 10, None, True)).flows == ()


async def test_a_start_that_meets_a_bug_fails_alone(autojump_clock, engine, user, bug):
    await engine.save({**WAIT, "id": 1})
    wanted = [StartRequest("w", {"bad": number == 1}, flow_id=f"flow-{number}") for number in range(3)]
    outcomes = await engine.starts.start_many(wanted)
    assert outcomes[0].flow_id == "flow-0"
    assert isinstance(outcomes[1], FlowFault)
    assert outcomes[2].flow_id == "flow-2"


async def test_a_commit_of_many_flows_that_raises_is_made_one_by_one(autojump_clock, engine, user, monkeypatch):
    await engine.save(user(1, "a"))
    await engine.execute("w", {}, flow_id="one")
    await engine.execute("w", {}, flow_id="two")
    await engine.poll("a")
    await engine.poll("a")
    commit_all = engine.store.commit_all

    async def buggy(commits):
        if len(commits) > 1:
            raise TypeError("a bug")
        return await commit_all(commits)

    monkeypatch.setattr(engine.store, "commit_all", buggy)
    answers = await engine.orchestrator.push_all([Result("one", 1, 1, {}), Result("two", 1, 1, {})])
    assert answers == [Verdict.APPLIED, Verdict.APPLIED]


async def test_the_count_is_bounded_and_a_store_that_is_away_is_asked_again(autojump_clock, caplog):
    class Store:
        answers = iter([StoreUnavailable("away"), True])
        asked = 0

        async def quarantine(self, *args):
            self.asked += 1
            answer = next(self.answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    store = Store()
    failures = Failures(store, lambda flow_id: partition_of(flow_id, 4))
    for _ in range(FAILURES_MAX):
        assert isinstance(await failures.failed("bad", ValueError("x")), FlowFault)
    assert store.asked == 1
    await failures.failed("bad", ValueError("\ud800"))
    assert store.asked == 2
    for number in range(3):
        await failures.failed(f"flow-{number}", ValueError("x"))
    assert store.asked == 2


async def test_a_loop_continues_after_an_unexpected_error(autojump_clock, engine, monkeypatch, caplog):
    rounds = []

    async def expire(leases, limit):
        rounds.append(trio.current_time())
        raise RuntimeError("a bug")

    monkeypatch.setattr(engine.store, "expire", expire)
    with trio.move_on_after(3.5 * RETENTION_TIMING.scan_seconds):
        await run_retention(engine.store, engine.holdings)
    assert len(rounds) == 4
    assert sum("nobody foresaw (retention)" in record.message for record in caplog.records) == 1, "it is said once"


async def test_a_look_that_meets_a_bug_does_not_end_the_timers(autojump_clock, engine, user, monkeypatch):
    scan = engine.store.scan
    failing = [1, 2, 3]

    async def buggy(*args):
        if failing:
            failing.pop()
            raise RuntimeError("a bug")
        return await scan(*args)

    monkeypatch.setattr(engine.store, "scan", buggy)
    await save(engine, user)
    await start(engine, "good", bad=False)
    await trio.sleep(10)
    assert (await engine.queries.flow("good")).state is State.WAITING_EVENT


async def test_a_timer_whose_handling_raises_is_one_timer(autojump_clock, engine, user, monkeypatch):
    before = unforeseen.counts()["timer"]
    cancelled = []

    async def buggy(partition, keys):
        cancelled.append(keys)
        raise RuntimeError("a bug")

    await engine.save({**DELAY, "id": 1, "next": {}, "name": "delay"})
    await start(engine, "gone", bad=False)
    monkeypatch.setattr(engine.store, "cancel_timers", buggy)
    engine.store._partition(partition_of("gone", 4)).flows.clear()
    engine.mover._cache.drop("gone")
    await trio.sleep(5)
    assert cancelled
    assert unforeseen.counts()["timer"] > before
