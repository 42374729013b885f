"""Each event counts once, whichever caller leaves, whichever answer is lost, however often it is sent."""

from __future__ import annotations

import gc
from contextlib import suppress

import pytest
import trio

from orchy.engine.mailbox import Envelope
from orchy.engine.orchestrator import Delivery, Result
from orchy.errors import InvalidInput, LimitReached, NotFound, OutcomeUnknown, TooLarge, WrongState
from orchy.flow.execution import Flow, State
from orchy.flow.limits import KEPT_EVENT_BYTES_MAX, KEPT_EVENTS_MAX, RECENT_EVENTS_MAX, Limits
from orchy.flow.machine import Verdict
from orchy.store.memory.store import outcome_of

WAITS = 60


class Slow:
    """A store whose answers to commits take a second; some are lost although the commit was made."""

    def __init__(self, store):
        self._store = store
        self.lost = 0
        self.commits = 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def commit_all(self, commits):
        self.commits += 1
        outcomes = [await outcome_of(self._store.commit, commit) for commit in commits]
        await trio.sleep(1)
        if self.lost:
            self.lost -= 1
            return [OutcomeUnknown("the connection was lost")] * len(commits)
        return outcomes


@pytest.fixture
async def slow(store, engines, nursery):
    engine = engines(Slow(store))
    await nursery.start(engine.keeper.run)
    nursery.start_soon(engine.timers.run)
    return engine


async def start_waits(engine, count=WAITS):
    """A flow with `count` waits for `go` in sequence."""
    waits = [
        {"id": n, "type": "system", "name": "wait", "event": "go", "next": {"go": [n + 1]}} for n in range(1, count)
    ]
    await engine.save(*waits, {"id": count, "type": "system", "name": "wait", "event": "go"})
    await engine.execute("w", {}, flow_id="f")


async def taken(engine):
    """How many of the waits are over."""
    return len((await engine.queries.flow("f")).completed_actions)


@pytest.mark.parametrize("leave_after", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("cold", [False, True])
async def test_the_events_of_others_count_once_when_the_leader_leaves(autojump_clock, slow, leave_after, cold):
    """Thirty clients send an event each; those whose tasks commit the events disconnect in the middle."""
    engine = slow
    await start_waits(engine)
    if cold:
        engine.mover._cache.drop("f")
    delivered = []

    async def send(number):
        delivered.append(await engine.orchestrator.deliver("w", "f", "go", number))

    async def leave(number):
        with trio.move_on_after(leave_after):
            await send(number)

    async with trio.open_nursery() as clients:
        for number in range(30):
            clients.start_soon(leave if number < 3 else send, number)
            await trio.sleep(0 if number % 2 else 0.01)
    assert 27 <= len(delivered) <= 30
    assert all(delivered)
    assert len(delivered) <= await taken(engine) <= 30
    view = await engine.queries.flow("f")
    outputs = [view.data[str(action_id)]["output"] for action_id in view.completed_actions]
    assert len(set(outputs)) == len(outputs), "an event ended two waits"
    assert set(range(3, 30)) <= set(outputs)
    assert len(engine.mover._mailboxes) == 0


@pytest.mark.parametrize("lost", [1, 3])
async def test_a_batch_whose_answer_is_lost_counts_once(autojump_clock, slow, lost):
    engine = slow
    await start_waits(engine)
    answers = {}

    async def send(number):
        answers[number] = await engine.orchestrator.deliver("w", "f", "go", number, f"id-{number}")

    engine.store.lost = lost
    async with trio.open_nursery() as clients:
        for number in range(50):
            clients.start_soon(send, number)
    assert await taken(engine) == 50
    # Each was sent once: finding its commit made already does not make it a duplicate.
    assert set(answers.values()) == {Delivery(True)}
    for number in range(50):
        assert await engine.orchestrator.deliver("w", "f", "go", number, f"id-{number}") == Delivery(True, True)
    assert await taken(engine) == 50


async def test_a_commit_that_is_on_its_way_is_seen_through_and_the_caller_then_leaves(autojump_clock, slow):
    engine = slow
    await start_waits(engine, 2)
    with trio.move_on_after(0.5) as scope:
        await engine.orchestrator.deliver("w", "f", "go", 1)
        await trio.sleep_forever()
    assert scope.cancelled_caught
    commits = engine.store.commits
    assert await taken(engine) == 1
    assert await engine.orchestrator.deliver(
        "w", "f", "go", 2
    )  # the cache has the commit's result: no load, no conflict
    assert engine.store.commits == commits + 1


async def test_one_who_leaves_before_its_turn_leaves_no_event(autojump_clock, slow):
    engine = slow
    await start_waits(engine)
    async with trio.open_nursery() as clients:
        clients.start_soon(engine.orchestrator.deliver, "w", "f", "go", "first")
        await trio.sleep(0.1)
        for number in range(10):
            scope = trio.CancelScope(deadline=trio.current_time() + 0.1)

            async def send(number=number, scope=scope):
                with scope:
                    await engine.orchestrator.deliver("w", "f", "go", number)

            clients.start_soon(send)
    assert await taken(engine) == 1


async def test_a_script_of_the_leader_that_is_cut_off_is_run_for_the_next(autojump_clock, engine, user, monkeypatch):
    wait = {"id": 1, "type": "system", "name": "wait", "event": "go", "next": {"go": [2]}}
    script = {"id": 2, "type": "system", "name": "javascript", "expression": "set x", "next": [3]}
    await engine.save(wait, script, {"id": 3, "type": "system", "name": "wait", "event": "go"})
    await engine.execute("w", {}, flow_id="f")
    evaluate = engine.scripts.evaluate

    async def slowly(*args):
        await trio.sleep(5)
        return await evaluate(*args)

    monkeypatch.setattr(engine.scripts, "evaluate", slowly)
    answers = []

    async def send():
        answers.append(await engine.orchestrator.deliver("w", "f", "go", 2))

    async with trio.open_nursery() as clients:
        with trio.move_on_after(2):
            clients.start_soon(send)
            await engine.orchestrator.deliver("w", "f", "go", 1)
    assert answers == [Delivery(True)]
    assert len(engine.scripts.evaluated) == 1


# Ids that clients give.


async def test_the_same_id_is_answered_as_at_first_and_changes_nothing(autojump_clock, engine, user):
    await engine.save(user(1, "a", [2]), {"id": 2, "type": "system", "name": "wait", "event": "go"})
    flow_id = await engine.execute("w", {})
    deliver = engine.orchestrator.deliver
    assert await deliver("w", flow_id, "go", 1, "one") == Delivery(False)
    assert await deliver("w", flow_id, "go", 1, "one") == Delivery(False, True)
    (a,) = await engine.poll("a")
    await engine.finish(a)  # the wait takes the kept event
    assert await deliver("w", flow_id, "go", 1, "one") == Delivery(False, True)
    with pytest.raises(WrongState):
        await deliver("w", flow_id, "go", 1, "two")
    assert (await engine.types(flow_id)).count("EVENT_KEPT") == 1


async def test_ids_are_known_for_a_thousand_later_events(autojump_clock, engine):
    await start_waits(engine, 2)
    deliver = engine.orchestrator.deliver
    assert await deliver("w", "f", "go", None, "mine") == Delivery(True)
    for number in range(RECENT_EVENTS_MAX - 1):
        await deliver("w", "f", "other", number)
    assert await deliver("w", "f", "go", None, "mine") == Delivery(True, True)
    assert (await engine.queries.flow("f")).state is State.WAITING_EVENT


async def test_two_with_one_id_at_once_count_once(autojump_clock, slow):
    engine = slow
    await start_waits(engine)
    answers = []

    async def send():
        answers.append(await engine.orchestrator.deliver("w", "f", "go", None, "one"))

    engine.store.lost = 1
    async with trio.open_nursery() as clients:
        for _ in range(5):
            clients.start_soon(send)
    assert all(answers)
    assert await taken(engine) == 1
    assert sum(answer.duplicate for answer in answers) == 4


@pytest.mark.parametrize("event_id", ["", "x" * 129, "a\nb", "\x00", "\ud800", "\u202e"])
async def test_an_id_that_is_none_is_refused(autojump_clock, engine, event_id):
    await start_waits(engine, 2)
    with pytest.raises(InvalidInput, match="1 to 128 printable"):
        await engine.orchestrator.deliver("w", "f", "go", None, event_id)
    assert await engine.orchestrator.deliver("w", "f", "go", None, "Ä b:c/d" * 18)


# Limits.


async def test_what_a_flow_keeps_has_limits_with_names(autojump_clock, engine):
    await start_waits(engine, 2)
    deliver = engine.orchestrator.deliver
    with pytest.raises(TooLarge, match="1,048,576 bytes of one"):
        await deliver("w", "f", "other", "x" * KEPT_EVENT_BYTES_MAX)
    for _ in range(10):
        await deliver("w", "f", "other", "x" * (KEPT_EVENT_BYTES_MAX - 5_000))
    with pytest.raises(LimitReached, match="at most 10,485,760 bytes"):
        await deliver("w", "f", "other", "x" * (KEPT_EVENT_BYTES_MAX - 5_000))
    for _ in range(KEPT_EVENTS_MAX - 10):
        await deliver("w", "f", "other", None)
    with pytest.raises(LimitReached, match="keeps 1,000 events already"):
        await deliver("w", "f", "other", None)
    assert await deliver("w", "f", "go", "x" * (2 * KEPT_EVENT_BYTES_MAX))


async def test_a_late_result_that_is_repeated_writes_nothing_more(autojump_clock, engine, user):
    await engine.save(user(1, "a", [2]), user(2, "b"))
    flow_id = await engine.execute("w", {})
    (a,) = await engine.poll("a")
    await engine.finish(a)
    lines = len(await engine.types(flow_id))
    for _ in range(50):
        await engine.fail(a, "x" * 10_000)
    types = await engine.types(flow_id)
    assert len(types) == lines + 1
    assert types[-1] == "LATE"
    last = (await engine.queries.history(flow_id))[-1]
    assert len(last.detail) < 4_096
    assert last.detail.endswith("(cut, it has 10,000 characters)")


async def test_a_result_that_makes_a_flow_too_large_fails_it(autojump_clock, store, engines, user, nursery):
    engine = engines(store, limits=Limits(flow_bytes_max=10_000))
    await engine.save(user(1, "a", [2, 3]), user(2, "b"), user(3, "c"))
    await nursery.start(engine.keeper.run)
    flow_id = await engine.execute("w", {"n": "x" * 2_000})
    (a,) = await engine.poll("a")
    await engine.finish(a, {"n": "x" * 5_000})
    (b,) = await engine.poll("b")
    await engine.finish(b, {"n": "x" * 5_000})
    view = await engine.queries.flow(flow_id)
    assert view.state is State.FAILED
    assert "action 2 (b) failed on attempt 1: its output is 5,008 bytes" in view.error
    assert "the limit is 10,000 (--flow-limit-bytes)" in view.error
    assert view.completed_actions == (1,)
    assert await engine.poll("c") == []


async def test_a_flow_that_moves_much_is_not_taken_for_a_large_one(autojump_clock, store, engines, user, nursery):
    engine = engines(store, limits=Limits(flow_bytes_max=3_000))
    await engine.save(user(1, "a"))
    await nursery.start(engine.keeper.run)
    flow_id = await engine.execute("w", {})
    for _ in range(100):
        await engine.orchestrator.pause("w", flow_id)
        await engine.orchestrator.resume("w", flow_id)
    assert engine.mover._cache.get(flow_id).size_bytes > 3_000
    (a,) = await engine.poll("a")
    await engine.finish(a, {"n": 1})
    assert (await engine.queries.flow(flow_id)).state is State.COMPLETED


async def test_a_start_whose_scripts_make_too_much_fails(autojump_clock, store, engines, user):
    engine = engines(store, limits=Limits(flow_bytes_max=1_000))
    await engine.save({"id": 1, "type": "system", "name": "javascript", "expression": f"set {'x' * 2_000}"})
    view = await engine.queries.flow(await engine.execute("w", {}))
    assert view.state is State.FAILED
    assert "its output is" in view.error


async def test_what_is_refused_leaves_no_garbage_that_holds_the_flow(autojump_clock, engine, user):
    """An error whose traceback holds the caller's frame, which holds the error, would keep a large flow in memory."""
    await engine.save(user(1, "a"))
    flow_id = await engine.execute("w", {})
    (a,) = await engine.poll("a")
    gc.collect()
    gc.disable()
    try:
        for number in range(20):
            with suppress(TooLarge):
                await engine.orchestrator.deliver("w", flow_id, "go", "x" * (KEPT_EVENT_BYTES_MAX + number))
            with suppress(NotFound):
                await engine.orchestrator.deliver("w", "nobody", "go", number)
            with suppress(InvalidInput):
                await engine.orchestrator.push(Result(flow_id, 7, 1))
        left = [one for one in gc.get_objects() if isinstance(one, Envelope | Flow)]
    finally:
        gc.enable()
    assert len(left) <= 5
    assert await engine.finish(a) is Verdict.APPLIED
