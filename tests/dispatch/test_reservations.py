"""Attempts that a commit hands out itself, to a stream of its node: the stream gets them, or others do."""

from __future__ import annotations

import json

import attrs
import pytest
import trio

from orchy.dispatch.demand import Demand
from orchy.engine.mailbox import Envelope
from orchy.engine.orchestrator import Result
from orchy.engine.starts import StartRequest
from orchy.errors import OutcomeUnknown, StoreUnavailable
from orchy.flow.definition import ActionDefinition
from orchy.flow.events import Completed, Pause
from orchy.flow.execution import State
from orchy.flow.machine import Verdict

TIMEOUT_SECONDS = 30


@attrs.define
class Waiting:
    """A worker that waits for attempts of one action, and what it has received."""

    demand: Demand
    got: list = attrs.field(factory=list)

    def deliver(self, claimed):
        self.got += [json.loads(body) for body in claimed.bodies]


@pytest.fixture
def wait_for_work(nursery, autojump_clock):
    """Makes a worker wait on a node."""

    async def wait(engine, name, credit):
        waiting = Waiting(None)
        waiting.demand = Demand(name, f"waits for {name}", waiting.deliver)
        waiting.demand.add(credit)
        nursery.start_soon(engine.dispatcher.hand_out, waiting.demand)
        await trio.testing.wait_all_tasks_blocked()
        return waiting

    return wait


@pytest.fixture
async def known(engine):
    """The actions are registered, with a timeout and a second try."""
    for name in ("a", "b"):
        await engine.catalog.save_action(ActionDefinition(name, retry_count=2, timeout_seconds=TIMEOUT_SECONDS))


class Broken:
    """A store with some methods replaced."""

    def __init__(self, store, **methods):
        self._store = store
        self.__dict__.update(methods)

    def __getattr__(self, name):
        return getattr(self._store, name)


async def test_a_start_is_handed_out_by_its_commit(autojump_clock, engine, user, wait_for_work, known):
    await engine.save(user(1, "a"))
    worker = await wait_for_work(engine, "a", 1)
    flow_id = await engine.execute("w", {})
    assert [action["flow_id"] for action in worker.got] == [flow_id]
    assert (worker.demand.credit, worker.demand.reserved) == (0, 0)
    assert (await engine.types(flow_id))[-1] == "HANDED_OUT"
    assert await engine.poll("a") == []
    second = await engine.execute("w", {})  # there is no credit left
    assert [action["flow_id"] for action in await engine.poll("a")] == [second]


async def test_what_a_commit_hands_out_times_out(autojump_clock, engine, user, wait_for_work, known):
    await engine.save(user(1, "a"))
    worker = await wait_for_work(engine, "a", 1)
    flow_id = await engine.execute("w", {})
    await trio.sleep(TIMEOUT_SECONDS + 1)
    assert "TIMED_OUT" in await engine.types(flow_id)
    assert [action["attempt"] for action in await engine.poll("a")] == [2]
    assert [action["attempt"] for action in worker.got] == [1]


async def test_many_starts_are_handed_out_up_to_the_credit(autojump_clock, engine, user, wait_for_work):
    await engine.save(user(1, "a"))
    worker = await wait_for_work(engine, "a", 3)
    flow_ids = [begun.flow_id for begun in await engine.starts.start_many([StartRequest("w", {})] * 5)]
    assert [action["flow_id"] for action in worker.got] == flow_ids[:3]
    assert sorted(action["flow_id"] for action in await engine.poll("a")) == sorted(flow_ids[3:])


async def test_what_follows_many_results_is_handed_out(autojump_clock, engine, user, wait_for_work):
    await engine.save(user(1, "a", [2, 3]), user(2, "b"), user(3, "b"))
    flow_ids = [await engine.execute("w", {}) for _ in range(3)]
    actions = await engine.poll("a")
    worker = await wait_for_work(engine, "b", 5)
    results = [Result(action["flow_id"], 1, 1, {}) for action in actions]
    assert await engine.orchestrator.push_all(results) == [Verdict.APPLIED] * 3
    assert len(worker.got) == 5
    rest = await engine.poll("b")
    got = sorted((action["flow_id"], action["action_id"]) for action in worker.got + rest)
    assert got == sorted((flow_id, action_id) for flow_id in flow_ids for action_id in (2, 3))


@pytest.mark.parametrize("together", [False, True])
async def test_a_commit_that_came_too_late_hands_out_once(
    autojump_clock, engine, engines, user, wait_for_work, together, store
):
    await engine.save(user(4, "a", [1, 2]), user(1, "a", [3]), user(2, "a"), user(3, "b"))
    flow_id = await engine.execute("w", {})
    await engine.finish((await engine.poll("a"))[0])
    first, second = sorted(await engine.poll("a"), key=lambda action: action["action_id"])
    other = engines(store, "other")
    await other.finish(second)  # so that this node's copy of the flow is old
    worker = await wait_for_work(engine, "b", 2)
    result = Result(flow_id, first["action_id"], 1, {})
    if together:
        assert await engine.orchestrator.push_all([result]) == [Verdict.APPLIED]
    else:
        assert await engine.orchestrator.push(result) is Verdict.APPLIED
    assert [action["action_id"] for action in worker.got] == [3]
    assert (worker.demand.credit, worker.demand.reserved) == (1, 0)
    assert (await engine.types(flow_id)).count("HANDED_OUT") == 4


@pytest.mark.parametrize("together", [False, True])
async def test_a_lost_answer_frees_the_place_and_the_attempt_comes_back(
    autojump_clock, engine, engines, store, user, wait_for_work, known, together
):
    await engine.save(user(1, "a"))

    async def commit(made):
        await store.commit(made)
        raise OutcomeUnknown("lost")

    async def commit_all(commits):
        for made in commits:
            await store.commit(made)
        return [OutcomeUnknown("lost") for _ in commits]

    broken = engines(Broken(store, commit=commit, commit_all=commit_all), "broken")
    worker = await wait_for_work(broken, "a", 2)
    if together:
        (begun,) = await broken.starts.start_many([StartRequest("w", {})])
        flow_id = begun.flow_id
    else:
        flow_id = await broken.execute("w", {})
    assert worker.got == []
    assert (worker.demand.credit, worker.demand.reserved) == (2, 0)
    await trio.sleep(TIMEOUT_SECONDS + 1)
    assert [(action["flow_id"], action["attempt"]) for action in await engine.poll("a")] == [(flow_id, 2)]


@pytest.mark.parametrize("together", [False, True])
async def test_a_commit_that_fails_frees_the_place(autojump_clock, engines, store, user, wait_for_work, together):
    async def fail(made):
        if isinstance(made, list):
            return [StoreUnavailable("gone") for _ in made]
        raise StoreUnavailable("gone")

    broken = engines(Broken(store, commit=fail, commit_all=fail), "broken")
    await broken.save(user(1, "a"))
    worker = await wait_for_work(broken, "a", 2)
    if together:
        (outcome,) = await broken.starts.start_many([StartRequest("w", {})])
        assert isinstance(outcome, StoreUnavailable)
    else:
        with pytest.raises(StoreUnavailable):
            await broken.starts.start(StartRequest("w", {}))
    assert (worker.demand.credit, worker.demand.reserved) == (2, 0)


async def test_a_cancelled_caller_loses_nothing(autojump_clock, engines, store, user, wait_for_work):
    async def slow(made):
        committed = await store.commit(made)
        await trio.sleep(1)
        return committed

    node = engines(Broken(store, commit=slow), "slow")
    await node.save(user(1, "a"))
    worker = await wait_for_work(node, "a", 1)
    with trio.move_on_after(0.5):
        await node.execute("w", {}, flow_id="f")
    assert [action["flow_id"] for action in worker.got] == ["f"]


@pytest.mark.parametrize("together", [False, True])
async def test_a_pause_in_the_same_commit_holds_what_the_commit_creates(
    autojump_clock, engine, user, wait_for_work, together
):
    await engine.save(user(1, "a", [2]), user(2, "b"))
    flow_id = await engine.execute("w", {})
    await engine.poll("a")
    worker = await wait_for_work(engine, "b", 1)
    envelopes = [Envelope(Completed(1, 1, {}, "w")), Envelope(Pause(), "w")]
    mover = engine.mover
    if together:
        await mover.post_all({flow_id: envelopes})
    else:
        await mover._move(flow_id, envelopes)
    assert (await engine.queries.flow(flow_id)).state is State.PAUSED
    await trio.sleep(5)
    assert worker.got == []
    assert (worker.demand.credit, worker.demand.reserved) == (1, 0)
    await engine.orchestrator.resume("w", flow_id)
    await trio.sleep(5)
    assert [action["action_id"] for action in worker.got] == [2]


async def test_results_after_a_pause_or_cancellation_count_as_if_they_had_been_queued(
    autojump_clock, engine, user, wait_for_work
):
    await engine.save(user(1, "a", [2]), user(2, "a"))
    worker = await wait_for_work(engine, "a", 3)
    paused, cancelled = [await engine.execute("w", {}) for _ in range(2)]
    await engine.orchestrator.pause("w", paused)
    await engine.orchestrator.cancel("w", cancelled)
    first, second = worker.got
    assert await engine.finish(first) is Verdict.APPLIED
    assert await engine.finish(second) is Verdict.LATE
    assert len(worker.got) == 2
    await engine.orchestrator.resume("w", paused)
    assert [action["action_id"] for action in worker.got[2:]] == [2]


# Extensions.


async def test_an_extended_attempt_gets_its_whole_timeout_again(autojump_clock, engine, user, wait_for_work, known):
    await engine.save(user(1, "a"))
    worker = await wait_for_work(engine, "a", 1)
    flow_id = await engine.execute("w", {})
    for _ in range(3):
        await trio.sleep(TIMEOUT_SECONDS * 0.8)
        assert await engine.orchestrator.extend(flow_id, 1, 1)
    assert "TIMED_OUT" not in await engine.types(flow_id)
    await trio.sleep(TIMEOUT_SECONDS + 1)
    assert "TIMED_OUT" in await engine.types(flow_id)
    assert not await engine.orchestrator.extend(flow_id, 1, 1)
    assert await engine.finish(worker.got[0]) is Verdict.LATE


async def test_only_attempts_that_a_worker_has_are_extended(autojump_clock, engine, user, known):
    await engine.save(user(1, "a"))
    flow_id = await engine.execute("w", {})
    assert not await engine.orchestrator.extend(flow_id, 1, 1)  # no worker has it
    (action,) = await engine.poll("a")
    assert await engine.orchestrator.extend(flow_id, 1, 1)
    for flow, action_id, attempt in [("nope", 1, 1), (flow_id, 2, 1), (flow_id, 1, 2), (flow_id, 1, 0)]:
        assert not await engine.orchestrator.extend(flow, action_id, attempt)
    await engine.finish(action)
    assert not await engine.orchestrator.extend(flow_id, 1, 1)


async def test_a_node_with_an_old_copy_of_the_flow_extends_its_attempt(
    autojump_clock, engine, engines, store, user, known
):
    await engine.save(user(1, "a", [2]), user(2, "b"))
    flow_id = await engine.execute("w", {})
    other = engines(store, "other")
    await other.finish((await engine.poll("a"))[0])
    assert len(await engine.poll("b", wait_seconds=5)) == 1
    assert await engine.orchestrator.extend(flow_id, 2, 1)
