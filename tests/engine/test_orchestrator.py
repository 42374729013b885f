"""The use cases, on the in-memory store in virtual time."""

from __future__ import annotations

import pytest
import trio

from orchy.engine.orchestrator import Result
from orchy.errors import InvalidInput, NotFound, OutcomeUnknown, StoreUnavailable, VersionConflict, WrongState
from orchy.flow.definition import ActionDefinition, RetryPolicy
from orchy.flow.events import TimerKind
from orchy.flow.execution import State
from orchy.flow.machine import Verdict
from orchy.ring import partition_of
from orchy.store.memory.store import outcome_of
from orchy.store.timers import DueTimer, TimerKey


async def test_a_chain_of_user_and_system_actions_completes(autojump_clock, engine, user):
    await engine.save(
        user(1, "a", [2]),
        {"id": 2, "type": "system", "name": "javascript", "expression": "set x", "next": [3]},
        user(3, "b", parameters={"x": "{$.2.output.x}", "n": "{$.input.n}"}),
    )
    flow_id = await engine.execute("w", {"n": 7})
    (a,) = await engine.poll("a")
    assert await engine.finish(a) is Verdict.APPLIED
    (b,) = await engine.poll("b")
    assert b["parameters"] == {"x": 1, "n": 7}
    await engine.finish(b, {"done": True})
    view = await engine.queries.flow(flow_id)
    assert view.state is State.COMPLETED
    assert view.completed_actions == (1, 2, 3)
    assert view.data["3"] == {"output": {"done": True}}
    assert engine.observer.started == 1
    assert engine.observer.ended == ["COMPLETED"]


async def test_the_same_flow_id_starts_one_flow(autojump_clock, engine, user):
    await engine.save(user(1, "a"))
    for _ in range(3):
        assert await engine.execute("w", {}, flow_id="mine") == "mine"
    assert len(await engine.poll("a")) == 1


@pytest.mark.parametrize("flow_id", ["", "a b", "-x", "x" * 129, "a/b", "a:b", "{x}", "ä"])
async def test_a_flow_id_that_is_none_is_refused(autojump_clock, engine, user, flow_id):
    await engine.save(user(1, "a"))
    with pytest.raises(InvalidInput):
        await engine.execute("w", {}, flow_id=flow_id)


async def test_workflows_and_versions_that_are_not_there(autojump_clock, engine, user):
    with pytest.raises(NotFound):
        await engine.execute("nope", {})
    await engine.save(user(1, "a"))
    with pytest.raises(NotFound):
        await engine.execute("w", {}, version=2)
    await engine.catalog.delete_workflow("w")
    with pytest.raises(NotFound):
        await engine.execute("w", {}, version=1)


async def test_a_flow_keeps_its_version(autojump_clock, engine, user):
    await engine.save(user(1, "a", [2]), user(2, "old"))
    await engine.execute("w", {})
    await engine.save(user(1, "a", [2]), user(2, "new"))
    await engine.catalog.delete_workflow("w")
    (a,) = await engine.poll("a")
    await engine.finish(a)
    assert len(await engine.poll("old")) == 1


async def test_results_that_arrive_together_leave_in_few_commits(autojump_clock, engine, user):
    branches = range(2, 52)
    await engine.save(user(1, "a", list(branches)), *(user(n, "b", [99]) for n in branches), user(99, "join"))
    await engine.execute("w", {}, flow_id="f")
    (a,) = await engine.poll("a")
    await engine.finish(a)
    work = await engine.poll("b", limit=100)
    async with trio.open_nursery() as nursery:
        for action in work:
            nursery.start_soon(engine.finish, action)
    stored = await engine.store.load(engine.orchestrator._partition_of("f"), "f")
    assert stored.version < 10
    assert len(await engine.poll("join")) == 1


async def test_retries_wait_as_their_policy_says_and_then_the_flow_fails(autojump_clock, engine, user):
    await engine.catalog.save_action(ActionDefinition("a", 3, 10, RetryPolicy.BACKOFF))
    await engine.save(user(1, "a"))
    flow_id = await engine.execute("w", {})
    began = trio.current_time()
    waits = []
    for attempt in (1, 2, 3):
        (a,) = await engine.poll("a", wait_seconds=100)
        assert a["attempt"] == attempt
        waits.append(round(trio.current_time() - began))
        await engine.fail(a, "broken")
    assert waits == [0, 20, 50]
    view = await engine.queries.flow(flow_id)
    assert view.state is State.FAILED
    assert "action 1 (a)" in view.error
    assert "broken" in view.error


async def test_an_attempt_without_a_result_is_handed_out_again_after_its_timeout(autojump_clock, engine, user):
    await engine.catalog.save_action(ActionDefinition("a", 2, timeout_seconds=5))
    await engine.save(user(1, "a"))
    flow_id = await engine.execute("w", {})
    (first,) = await engine.poll("a")
    (second,) = await engine.poll("a", wait_seconds=60)
    assert second["attempt"] == 2
    assert await engine.finish(first) is Verdict.LATE
    assert await engine.finish(second) is Verdict.APPLIED
    assert await engine.finish(second) is Verdict.DUPLICATE
    types = await engine.types(flow_id)
    assert types.count("TIMED_OUT") == 1
    assert types.count("LATE") == 1


async def test_a_delay_is_never_early_and_hardly_late(autojump_clock, engine, user):
    await engine.save({"id": 1, "type": "system", "name": "delay", "delaySeconds": 3.5, "next": [2]}, user(2, "a"))
    began = trio.current_time()
    flow_id = await engine.execute("w", {})
    assert (await engine.queries.flow(flow_id)).state is State.WAITING_DELAY
    assert len(await engine.poll("a", wait_seconds=60)) == 1
    assert 3.5 <= trio.current_time() - began <= 3.6


async def test_an_event_wakes_a_wait_and_one_that_comes_first_is_kept(autojump_clock, engine, user):
    wait = {"id": 2, "type": "system", "name": "wait", "event": "go", "next": {"go": [3]}}
    await engine.save(user(1, "a", [2]), wait, user(3, "b", parameters={"data": "{$.2.output}"}))
    early, late = [await engine.execute("w", {}) for _ in range(2)]
    assert not await engine.orchestrator.deliver("w", early, "go", {"n": 1})
    for a in await engine.poll("a"):
        await engine.finish(a)
    (b,) = await engine.poll("b")
    assert (b["flow_id"], b["parameters"]) == (early, {"data": {"n": 1}})
    view = await engine.queries.flow(late)
    assert (view.state, view.waiting_on_event) == (State.WAITING_EVENT, "go")
    assert await engine.orchestrator.deliver("w", late, "go", 5)
    (b,) = await engine.poll("b")
    assert b["parameters"] == {"data": 5}
    with pytest.raises(NotFound):
        await engine.orchestrator.deliver("other", late, "go", 5)
    await engine.finish(b)
    with pytest.raises(WrongState):
        await engine.orchestrator.deliver("w", late, "go", 5)


async def test_a_paused_flow_hands_out_nothing_and_goes_on_from_there(autojump_clock, engine, user):
    await engine.save(user(1, "a", [2, 3]), user(2, "b"), user(3, "c"))
    flow_id = await engine.execute("w", {})
    (a,) = await engine.poll("a")
    assert (await engine.orchestrator.pause("w", flow_id)).flow.state is State.PAUSED
    assert (await engine.orchestrator.pause("w", flow_id)).flow.state is State.PAUSED
    assert await engine.finish(a) is Verdict.APPLIED
    assert await engine.poll("b") == []
    assert (await engine.orchestrator.resume("w", flow_id)).flow.state is State.RUNNING
    (b,) = await engine.poll("b")
    # A poll during the pause finds the queued attempt and sets it aside; it comes back with the resumption.
    await engine.orchestrator.pause("w", flow_id)
    assert await engine.poll("c") == []
    await engine.finish(b)
    await engine.orchestrator.resume("w", flow_id)
    (c,) = await engine.poll("c")
    await engine.finish(c)
    assert (await engine.queries.flow(flow_id)).state is State.COMPLETED
    with pytest.raises(WrongState):
        await engine.orchestrator.pause("w", flow_id)


async def test_a_cancelled_flow_is_over(autojump_clock, engine, user):
    await engine.save(user(1, "a", [2]), user(2, "b"))
    flow_id = await engine.execute("w", {})
    (a,) = await engine.poll("a")
    assert (await engine.orchestrator.cancel("w", flow_id)).flow.state is State.CANCELLED
    assert (await engine.orchestrator.cancel("w", flow_id)).flow.state is State.CANCELLED
    assert await engine.finish(a) is Verdict.LATE
    assert await engine.poll("b") == []
    with pytest.raises(WrongState):
        await engine.orchestrator.resume("w", flow_id)


async def test_a_failed_script_fails_the_flow_with_its_words(autojump_clock, engine, user):
    await engine.save({"id": 1, "type": "system", "name": "javascript", "expression": "throw boo"})
    view = await engine.queries.flow(await engine.execute("w", {}))
    assert view.state is State.FAILED
    assert "boo" in view.error


async def test_more_scripts_than_one_commit_takes_go_on_by_themselves(autojump_clock, engine, user):
    scripts = [
        {"id": n, "type": "system", "name": "javascript", "expression": f"set k{n}", "next": [n + 1]}
        for n in range(1, 60)
    ]
    await engine.save(*scripts, user(60, "end"))
    await engine.execute("w", {})
    assert len(await engine.poll("end", wait_seconds=10)) == 1
    assert len(engine.scripts.evaluated) == 59


async def test_a_flow_that_is_to_be_deleted_leaves_nothing(autojump_clock, engine, user):
    await engine.save(user(1, "a"), onSuccess="DELETE")
    flow_id = await engine.execute("w", {})
    (a,) = await engine.poll("a")
    await engine.finish(a)
    with pytest.raises(NotFound):
        await engine.queries.flow(flow_id)
    assert await engine.finish(a) is None  # the answer to its worker is that the flow is gone
    assert (await engine.queries.flows(None, None, 10, None)).flows == ()


class Faulty:
    """A store whose next commits fail, before or after they were carried out."""

    def __init__(self, store):
        self._store = store
        self.faults = []

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def commit(self, commit):
        fault = self.faults.pop(0) if self.faults else None
        if fault == "lost before":
            raise OutcomeUnknown("lost")
        if fault == "conflict":
            raise VersionConflict("first")
        if fault == "down":
            raise StoreUnavailable("down")
        done = await self._store.commit(commit)
        if fault == "lost after":
            raise OutcomeUnknown("lost")
        return done

    async def commit_all(self, commits):
        return [await outcome_of(self.commit, commit) for commit in commits]


@pytest.fixture
async def faulty(store, engines, nursery):
    engine = engines(Faulty(store))
    await nursery.start(engine.keeper.run)
    nursery.start_soon(engine.timers.run)
    return engine


@pytest.mark.parametrize("fault", ["lost before", "lost after", "conflict"])
async def test_a_commit_whose_answer_is_lost_is_neither_lost_nor_made_twice(autojump_clock, faulty, user, fault):
    engine = faulty
    wait = {"id": 2, "type": "system", "name": "wait", "event": "go", "next": {"go": [3]}}
    await engine.save(user(1, "a", [2]), wait, user(3, "b"))
    if fault != "conflict":
        engine.store.faults = [fault]
    flow_id = await engine.execute("w", {})
    (a,) = await engine.poll("a", wait_seconds=5)
    engine.store.faults = [fault]
    assert await engine.finish(a) in (Verdict.APPLIED, Verdict.DUPLICATE)
    engine.store.faults = [fault]
    assert await engine.orchestrator.deliver("w", flow_id, "go", 1)
    (b,) = await engine.poll("b", wait_seconds=5)
    engine.store.faults = [fault, fault]
    await engine.finish(b)
    types = await engine.types(flow_id)
    assert types.count("COMPLETED") == 3
    assert types.count("EVENT") == 1
    assert types[-1] == "FLOW_COMPLETED"


@pytest.mark.parametrize("fault", ["lost before", "lost after"])
async def test_an_event_that_is_kept_is_kept_once(autojump_clock, faulty, user, fault):
    engine = faulty
    await engine.save(user(1, "a"))
    flow_id = await engine.execute("w", {})
    engine.store.faults = [fault]
    assert not await engine.orchestrator.deliver("w", flow_id, "go", 1)
    assert (await engine.types(flow_id)).count("EVENT_KEPT") == 1


async def test_a_result_can_be_pushed_again_after_the_store_was_down(autojump_clock, faulty, user):
    engine = faulty
    await engine.save(user(1, "a"))
    await engine.execute("w", {})
    (a,) = await engine.poll("a")
    engine.store.faults = ["down"]
    with pytest.raises(StoreUnavailable):
        await engine.finish(a)
    assert await engine.finish(a) is Verdict.APPLIED


async def test_endless_conflicts_are_an_error_in_the_end(autojump_clock, faulty, user):
    engine = faulty
    await engine.save(user(1, "a"))
    await engine.execute("w", {})
    (a,) = await engine.poll("a")
    engine.store.faults = ["conflict"] * 20
    with pytest.raises(StoreUnavailable):
        await engine.finish(a)
    engine.store.faults = []
    assert await engine.finish(a) is Verdict.APPLIED


async def test_two_nodes_move_one_flow_and_each_result_counts_once(autojump_clock, store, engines, user, nursery):
    one, two = engines(store, "one"), engines(store, "two")
    await nursery.start(one.keeper.run)
    nursery.start_soon(one.timers.run)
    branches = range(2, 22)
    await one.save(user(1, "a", list(branches)), *(user(n, "b", [99]) for n in branches), user(99, "join"))
    flow_id = await one.execute("w", {})
    (a,) = await one.poll("a")
    await two.finish(a)
    work = await one.poll("b", limit=100, wait_seconds=5)
    verdicts = []

    async def finish(engine, action):
        verdicts.append(await engine.finish(action))

    async with trio.open_nursery() as pushing:
        for action in work:
            pushing.start_soon(finish, one, action)
            pushing.start_soon(finish, two, action)
    assert verdicts.count(Verdict.APPLIED) == len(work)
    assert verdicts.count(Verdict.DUPLICATE) == len(work)
    assert len(await one.poll("join", wait_seconds=5)) == 1
    assert (await one.types(flow_id)).count("COMPLETED") == len(work) + 1


async def test_a_caller_that_goes_away_takes_nothing_with_it(autojump_clock, engine, user):
    await engine.save(user(1, "a", [2]), user(2, "b"))
    await engine.execute("w", {})
    (a,) = await engine.poll("a")
    with trio.CancelScope() as scope:
        scope.cancel()
        await engine.finish(a)  # a commit in flight is completed
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert await engine.finish(a) in (Verdict.APPLIED, Verdict.DUPLICATE)
    assert len(await engine.poll("b", wait_seconds=2)) == 1
    assert len(engine.mover._mailboxes) == 0


async def test_listings_are_newest_first_and_paged(autojump_clock, engine, user):
    await engine.save(user(1, "a"))
    await engine.save(user(1, "a"), name="other")
    ids = []
    for number in range(25):
        await trio.sleep(0.01)
        ids.append(await engine.execute("w" if number % 5 else "other", {}))
    seen, cursor = [], None
    while True:
        page = await engine.queries.flows(None, None, 4, cursor)
        seen += [flow.id for flow in page.flows]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == ids[::-1]
    assert [flow.id for flow in (await engine.queries.flows("other", None, 50, None)).flows] == ids[::5][::-1]
    await engine.orchestrator.pause("w", ids[1])
    assert [flow.id for flow in (await engine.queries.flows(None, State.PAUSED, 50, None)).flows] == [ids[1]]
    for bad in ("x", "!!!", "é"):
        with pytest.raises(InvalidInput):
            await engine.queries.flows(None, None, 10, bad)


async def test_a_finished_flow_is_removed_after_its_retention(autojump_clock, engine, user, nursery):
    from orchy.partition.retention import run_retention

    nursery.start_soon(run_retention, engine.store, engine.holdings)
    await engine.save(user(1, "a"))
    flow_id = await engine.execute("w", {})
    (a,) = await engine.poll("a")
    await engine.finish(a)
    await trio.sleep(50)
    assert (await engine.queries.flow(flow_id)).state is State.COMPLETED
    await trio.sleep(30)
    with pytest.raises(NotFound):
        await engine.queries.flow(flow_id)


async def test_parameters_that_can_not_be_sent_fail_the_flow(autojump_clock, engine, user, monkeypatch):
    def encode(**action):
        if action["name"] == "bad":
            raise InvalidInput("too deep")
        return b"{}"

    monkeypatch.setattr(engine.mover._commits, "_encode_action", encode)
    await engine.save({"id": 1, "type": "system", "name": "delay", "delaySeconds": 1, "next": [2]}, user(2, "bad"))
    flow_id = await engine.execute("w", {})
    await trio.sleep(2)
    view = await engine.queries.flow(flow_id)
    assert view.state is State.FAILED
    assert "too deep" in view.error


@pytest.fixture
def two_nodes(autojump_clock, store, engines):
    """Two nodes on one store, each with a cache of its own."""
    return engines(store, "one"), engines(store, "two")


async def test_an_order_that_another_node_has_undone_is_carried_out_again(autojump_clock, two_nodes, user):
    one, two = two_nodes
    await one.save(user(1, "a"))
    flow_id = await one.execute("w", {})
    await one.orchestrator.pause("w", flow_id)
    await two.orchestrator.resume("w", flow_id)
    flow = (await one.orchestrator.pause("w", flow_id)).flow  # the last that this node sees of it
    assert flow.state is State.PAUSED
    assert (await two.queries.flow(flow_id)).state is State.PAUSED


async def test_a_timer_is_not_forgotten_because_a_node_saw_the_flow_before_it_was_set(autojump_clock, two_nodes, user):
    one, two = two_nodes
    await one.save(user(1, "a", [2]), {"id": 2, "type": "system", "name": "delay", "delaySeconds": 1})
    flow_id = await one.execute("w", {}, flow_id="f")  # seen by node one with action 1 running
    await two.orchestrator.push(Result(flow_id, 1, 1, {}))  # and moved on by node two
    key = TimerKey(TimerKind.DELAY, 2, 1, flow_id)
    await one.orchestrator.fire(DueTimer(partition_of(flow_id, 4), key, 0))
    assert (await one.queries.flow(flow_id)).state is State.COMPLETED


async def test_a_result_does_not_wait_for_the_scripts_of_another_flow(autojump_clock, engine, user, monkeypatch):
    script = {"id": 2, "type": "system", "name": "javascript", "expression": "set x"}
    await engine.save(user(1, "a", [2]), script, name="slow")
    await engine.save(user(1, "a"))
    for number in range(5):
        await engine.execute("slow", {}, flow_id=f"slow-{number}")
        await engine.execute("w", {}, flow_id=f"quick-{number}")
    evaluate = engine.scripts.evaluate

    async def slowly(*args):
        await trio.sleep(20)
        return await evaluate(*args)

    monkeypatch.setattr(engine.scripts, "evaluate", slowly)
    times = {}
    began = trio.current_time()

    async def push(action):
        assert await engine.finish(action) is Verdict.APPLIED
        times[action["flow_id"]] = round(trio.current_time() - began)

    async with trio.open_nursery() as workers:
        for action in await engine.poll("a", limit=100):
            workers.start_soon(push, action)
    assert len(times) == 10
    assert all(seconds == (20 if flow_id.startswith("slow") else 0) for flow_id, seconds in times.items())


async def test_scripts_wait_in_the_name_of_their_workflow(autojump_clock, engine, monkeypatch):
    await engine.save({"id": 1, "type": "system", "name": "javascript", "expression": "set x"}, name="of-this-one")
    evaluate, workflows = engine.scripts.evaluate, []

    async def noted(expression, context, workflow):
        workflows.append(workflow)
        return await evaluate(expression, context)

    monkeypatch.setattr(engine.scripts, "evaluate", noted)
    await engine.execute("of-this-one", {})
    assert workflows == ["of-this-one"]
