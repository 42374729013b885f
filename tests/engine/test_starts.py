"""Starts in batches: in order, concurrent, each with its own outcome; and REST's answers to them."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest
import trio

from orchy.engine.limits import FLOWS_AT_ONCE, GROUPS_AT_ONCE
from orchy.engine.start_commits import StartOutcome
from orchy.engine.starts import STARTS_MAX, StartRequest
from orchy.errors import (
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    StoreRefused,
    StoreUnavailable,
    VersionConflict,
    WrongState,
)
from orchy.rest import Services, create_app
from orchy.ring import partition_of
from orchy.runtime.gather import gather
from orchy.store.memory.store import outcome_of

STARTS_AT_ONCE = FLOWS_AT_ONCE * GROUPS_AT_ONCE


class Watched:
    """A store that counts calls, takes a second for each commit, and fails from some commit on."""

    def __init__(self, store):
        self._store = store
        self.asked = []
        self.commits = 0
        self.under_way = 0
        self.most_under_way = 0
        self.sound_commits = float("inf")
        self.error = StoreUnavailable("down")
        self.lost_after_commit = False
        self.down = False

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def latest_version(self, name):
        self.asked.append(name)
        if self.down:
            raise StoreUnavailable("down")
        return await self._store.latest_version(name)

    async def load(self, partition, flow_id):
        if self.commits > self.sound_commits:
            raise StoreUnavailable("down")
        return await self._store.load(partition, flow_id)

    async def commit(self, commit):
        self.commits += 1
        number = self.commits
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await trio.sleep(1)
        self.under_way -= 1
        if number > self.sound_commits:
            if self.lost_after_commit:
                with suppress(VersionConflict):
                    await self._store.commit(commit)
            raise self.error
        return await self._store.commit(commit)

    async def commit_all(self, commits):
        return await gather(partial(outcome_of, self.commit), commits)


@pytest.fixture
def watched(store, engines):
    return engines(Watched(store))


@pytest.fixture
def client(watched):
    """REST on that engine, without a cluster and without metrics."""

    class Metrics:
        def requested(self, method, route, status, seconds):
            pass

        def text(self):
            return b""

    class Cluster:
        ready = True

        async def describe(self):
            return {}

    services = Services(watched.starts, watched.orchestrator, watched.queries, watched.catalog, Cluster(), Metrics())
    return create_app(services, body_limit_bytes=200_000).test_client()


async def execute(client, body):
    """Start a batch; (status, JSON) of the answer."""
    answer = await client.post("/flow/execute", json=body)
    return answer.status_code, await answer.get_json()


def start_batch(engine, starts):
    return engine.starts.start_many(starts)


async def ids(engine):
    return {flow.id for flow in (await engine.queries.flows(None, None, 500, None)).flows}


async def test_outcomes_come_in_order_and_each_for_itself(autojump_clock, watched, user):
    await watched.save(user(1, "a"))
    await watched.save(user(1, "a"), name="gone")
    await watched.catalog.delete_workflow("gone")
    outcomes = await start_batch(
        watched,
        [
            StartRequest("w", {"n": 1}, flow_id="one"),
            StartRequest("nope", {}),
            StartRequest("w", {}, version=7),
            StartRequest("gone", {}, version=1),
            StartRequest("w", {}, flow_id="not an id"),
            StartRequest("w", {"n": 2}, version=1),
        ],
    )
    assert outcomes[0] == StartOutcome("one", True, 1)
    assert [type(outcome) for outcome in outcomes[1:5]] == [NotFound, NotFound, NotFound, InvalidInput]
    assert await ids(watched) == {"one", outcomes[5].flow_id}
    assert (await watched.queries.flow(outcomes[5].flow_id)).data == {"input": {"n": 2}}
    assert watched.observer.started == 2


async def test_commits_leave_side_by_side_and_the_newest_version_is_read_once(autojump_clock, watched, user):
    await watched.save(user(1, "a"))
    await watched.save(user(1, "b"), name="other")
    began = trio.current_time()
    names = ["w", "other"] * (STARTS_MAX // 2)
    outcomes = await start_batch(watched, [StartRequest(name, {"n": number}) for number, name in enumerate(names)])
    assert trio.current_time() - began == pytest.approx(-(-STARTS_MAX // STARTS_AT_ONCE))
    assert watched.store.most_under_way == STARTS_AT_ONCE
    assert sorted(watched.store.asked) == ["other", "w"]
    assert len({outcome.flow_id for outcome in outcomes}) == STARTS_MAX
    for number in (0, 1, 998, 999):
        view = await watched.queries.flow(outcomes[number].flow_id)
        assert (view.name, view.data) == (names[number], {"input": {"n": number}})


async def test_one_flow_id_several_times_starts_the_first_that_can_be(autojump_clock, watched, user):
    await watched.save(user(1, "a"))
    starts = [
        StartRequest("nope", {}, flow_id="f"),
        *(StartRequest("w", {"n": number}, flow_id="f") for number in range(40)),
    ]
    again = [StartRequest("w", {"n": 0}, flow_id="f"), StartRequest("w", {"n": 0}, version=1, flow_id="f")]
    outcomes = await start_batch(watched, [*starts, StartRequest("w", {}, flow_id="g"), *again])
    assert isinstance(outcomes[0], NotFound)
    assert outcomes[1] == StartOutcome("f", True, 1)
    assert {type(outcome) for outcome in outcomes[2:41]} == {WrongState}
    assert outcomes[41:] == [StartOutcome("g", True, 1), StartOutcome("f", False, 1), StartOutcome("f", False, 1)]
    assert (await watched.queries.flow("f")).data == {"input": {"n": 0}}
    assert watched.observer.started == 2


async def test_a_batch_repeated_starts_what_was_not_and_nothing_twice(autojump_clock, watched, user):
    await watched.save(user(1, "a"))
    starts = [StartRequest("w", {}, flow_id=f"f-{number}") for number in range(200)]
    watched.store.sound_commits = 50
    outcomes = await start_batch(watched, starts)
    started = [outcome.flow_id for outcome in outcomes if isinstance(outcome, StartOutcome)]
    assert len(started) == 50
    assert await ids(watched) == set(started)
    assert all(isinstance(outcome, StartOutcome | StoreUnavailable) for outcome in outcomes)
    # Only the starts in flight waited for the timeout; the others failed at once.
    assert watched.store.commits < 50 + 2 * STARTS_AT_ONCE
    watched.store.sound_commits = float("inf")
    repeated = await start_batch(watched, starts)
    assert repeated == [StartOutcome(start.flow_id, start.flow_id not in started, 1) for start in starts]
    assert watched.observer.started == 200


async def test_a_refusal_ends_nothing_but_its_own_start(autojump_clock, watched, user):
    await watched.save(user(1, "a"))
    watched.store.sound_commits, watched.store.error = 10, StoreRefused("out of memory")
    outcomes = await start_batch(watched, [StartRequest("w", {}) for _ in range(100)])
    assert [type(outcome) for outcome in outcomes].count(StoreRefused) == 90
    assert watched.store.commits == 100


async def test_a_start_with_unknown_outcome_says_so_and_names_its_flow(autojump_clock, watched, user):
    await watched.save(user(1, "a"))
    watched.store.sound_commits, watched.store.error = 0, OutcomeUnknown("the connection was lost")
    watched.store.lost_after_commit = True
    outcomes = await start_batch(watched, [StartRequest("w", {}) for _ in range(STARTS_AT_ONCE + 5)])
    unknown = [outcome for outcome in outcomes if isinstance(outcome, OutcomeUnknown)]
    started = await ids(watched)
    assert len(unknown) == len(started) == STARTS_AT_ONCE
    assert all(
        any(f"flow {flow_id} may have been started" in str(outcome) for outcome in unknown) for flow_id in started
    )
    # The message of starts that were not begun does not mention the others.
    assert {str(outcome) for outcome in outcomes if isinstance(outcome, StoreUnavailable)} == {
        "not begun, as the store was not reached for another start of the batch"
    }


async def test_rest_answers_good_and_bad_items_in_order(autojump_clock, watched, client, user):
    await watched.save(user(1, "a"))
    status, answers = await execute(
        client,
        [
            {"name": "w", "flowId": "f"},
            {"name": "nope"},
            {"name": 1, "x/y": 2},
            {},
            {"name": "w", "flowId": "a b"},
            {"name": "w", "flowId": "f", "input": {"late": True}},
            {"name": "w", "flowId": "f"},
        ],
    )
    assert status == 200
    assert answers[0] == {"flowId": "f", "created": True}
    assert answers[6] == {"flowId": "f", "created": False}
    assert answers[5]["status"] == 409
    assert [problem["pointer"] for problem in answers[5]["details"]] == ["/5/flowId", "/5/input"]
    assert [answer["status"] for answer in answers[1:5]] == [404, 400, 400, 400]
    assert all(set(answer) == {"error", "details", "status"} for answer in answers[1:5])
    assert [problem["pointer"] for problem in answers[2]["details"]] == ["/2/name", "/2/x~1y"]
    assert answers[3]["details"][0]["pointer"] == "/3"
    assert (await watched.queries.flow("f")).data == {"input": {}}


@pytest.mark.parametrize("count", [0, STARTS_MAX + 1])
async def test_rest_takes_no_batch_outside_of_its_limits(autojump_clock, watched, client, user, count):
    await watched.save(user(1, "a"))
    status, answer = await execute(client, [{"name": "w"}] * count)
    assert status == 400
    assert f"{count:,}" in answer["error"]
    assert f"{STARTS_MAX:,}" in answer["error"]
    assert await ids(watched) == set()


async def test_rest_takes_the_largest_batch(autojump_clock, watched, client, user):
    await watched.save(user(1, "a"))
    status, answers = await execute(client, [{"name": "w"}] * STARTS_MAX)
    assert status == 200
    assert len({answer["flowId"] for answer in answers}) == STARTS_MAX


async def test_rest_refuses_a_list_of_other_things_and_starts_nothing(autojump_clock, watched, client, user):
    await watched.save(user(1, "a"))
    status, answer = await execute(client, [{"name": "w"}, 1, None, {"name": "w"}, []])
    assert status == 400
    assert [problem["pointer"] for problem in answer["details"]] == ["/1", "/2", "/4"]
    assert await ids(watched) == set()


async def test_rest_takes_no_body_that_is_too_large(autojump_clock, watched, client, user):
    await watched.save(user(1, "a"))
    status, answer = await execute(client, [{"name": "w", "input": "x" * 100_000}] * 3)
    assert status == 413
    assert set(answer) == {"error", "details"}
    assert await ids(watched) == set()


async def test_rest_says_503_when_nothing_was_started_for_the_stores_sake(autojump_clock, watched, client, user):
    await watched.save(user(1, "a"))
    batch = [{"name": "w"}, {"name": 1}, *[{"name": "w"}] * 98]
    for attribute, value in (("sound_commits", 0), ("down", True)):
        setattr(watched.store, attribute, value)
        answer = await client.post("/flow/execute", json=batch)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert "nothing was accepted" in (await answer.get_json())["error"]
    assert await ids(watched) == set()


async def test_rest_tells_each_item_when_the_store_fails_in_the_middle(autojump_clock, watched, client, user):
    await watched.save(user(1, "a"))
    watched.store.sound_commits = 50
    status, answers = await execute(client, [{"name": "w", "flowId": f"f-{number}"} for number in range(100)])
    assert status == 200
    started = {answer["flowId"] for answer in answers if "flowId" in answer}
    assert len(started) == 50
    assert await ids(watched) == started
    assert {answer["status"] for answer in answers if "flowId" not in answer} == {503}


async def test_rest_claims_nothing_about_a_batch_that_may_have_been_started(autojump_clock, watched, client, user):
    await watched.save(user(1, "a"))
    watched.store.sound_commits, watched.store.error = 0, OutcomeUnknown("the connection was lost")
    watched.store.lost_after_commit = True
    status, answers = await execute(client, [{"name": "w"}] * 2)
    assert status == 200
    for flow_id in await ids(watched):
        assert any(flow_id in answer["error"] for answer in answers)
    assert all("nothing was accepted" not in answer["error"] for answer in answers)
    watched.store.lost_after_commit = False
    assert (await execute(client, {"name": "w"}))[0] == 503


@pytest.mark.parametrize(("at_once_max", "most"), [(None, 7), (3, 3), (1, 1), (50, 7)])
async def test_gather_keeps_order_and_limit(autojump_clock, at_once_max, most):
    under_way, seen = 0, []

    async def double(number):
        nonlocal under_way
        under_way += 1
        seen.append(under_way)
        await trio.sleep(10 - number)
        under_way -= 1
        return 2 * number

    assert await gather(double, range(7), at_once_max) == [0, 2, 4, 6, 8, 10, 12]
    assert max(seen) == most


async def test_gather_of_nothing_is_nothing(autojump_clock):
    assert await gather(trio.sleep, [], 3) == []


# Starts whose flow exists already.


async def test_a_start_says_whether_it_made_the_flow(autojump_clock, watched, user):
    await watched.save(user(1, "a"))
    begin = watched.start
    assert await begin("w", {"n": 1, "m": [True, None]}, flow_id="f") == StartOutcome("f", True, 1)
    assert await begin("w", {"m": [True, None], "n": 1}, flow_id="f") == StartOutcome("f", False, 1)
    assert await begin("w", {"n": 1, "m": [True, None]}, version=1, flow_id="f") == StartOutcome("f", False, 1)
    assert (await begin("w", {})).created
    await watched.save(user(1, "a"), user(2, "b"), rootAction=1, actions=[user(1, "a", {"default": [2]}), user(2, "b")])
    assert await begin("w", {"n": 1, "m": [True, None]}, flow_id="f") == StartOutcome("f", False, 1)
    assert watched.observer.started == 2


@pytest.mark.parametrize(
    ("name", "version", "input", "pointers"),
    [
        ("other", None, {"n": 1}, ["/flowId", "/name"]),
        ("w", 2, {"n": 1}, ["/flowId", "/version"]),
        ("w", None, {"n": 1.0}, ["/flowId", "/input"]),
        ("w", None, {"n": True}, ["/flowId", "/input"]),
        ("other", 1, {}, ["/flowId", "/name", "/input"]),
    ],
)
@pytest.mark.parametrize("together", [False, True])
async def test_an_id_of_another_flow_is_a_conflict(
    autojump_clock, watched, user, name, version, input, pointers, together
):
    await watched.save(user(1, "a"))
    await watched.save(user(1, "b"))
    await watched.save(user(1, "a"), name="other")
    conflicts = []

    async def begin(name, input, version):
        try:
            await watched.start(name, input, version, "f")
        except WrongState as conflict:
            conflicts.append(conflict)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(begin, "w", {"n": 1}, 1)
        await trio.sleep(0 if together else 10)
        await begin(name, input, version)
    assert await ids(watched) == {"f"}
    if not together:
        (conflict,) = conflicts
        assert "workflow 'w' in version 1" in str(conflict)
        assert [problem.pointer for problem in conflict.problems] == pointers
        assert watched.observer.started == 1
    else:  # either may be first
        assert len(conflicts) == 1


async def test_of_starts_in_one_turn_each_has_its_own_answer(autojump_clock, watched, user):
    await watched.save(user(1, "a"))
    await watched.start("w", {"n": 2}, flow_id="f")
    wanted = [StartRequest("w", {"n": number}, flow_id="f") for number in (1, 2, 3, 2)]
    outcomes = await watched.starts.start_many(
        [*wanted, StartRequest("w", {}, flow_id="g"), StartRequest("w", {}, flow_id="g")]
    )
    assert [type(outcome) for outcome in outcomes] == [
        WrongState,
        StartOutcome,
        WrongState,
        StartOutcome,
        StartOutcome,
        StartOutcome,
    ]
    assert [outcome.created for outcome in outcomes if isinstance(outcome, StartOutcome)] == [False, False, True, False]
    assert (await watched.queries.flow("f")).data == {"input": {"n": 2}}


async def test_the_id_of_a_flow_that_was_removed_starts_nothing_for_a_while(autojump_clock, watched, user):
    await watched.save({"id": 1, "type": "system", "name": "delay", "delaySeconds": 0.1}, onSuccess="DELETE")
    await watched.start("w", {}, flow_id="f")
    await watched.orchestrator.cancel("w", "f")
    watched.store._store._partition(partition_of("f", 4)).flows.clear()
    watched.store._store._partition(partition_of("f", 4)).remembered["f"] = 10**12
    assert await watched.start("w", {"other": 1}, flow_id="f") == StartOutcome("f", False, 1)
    assert watched.observer.started == 1


@pytest.mark.parametrize("at_once", [1, 2])
async def test_a_start_whose_answer_was_lost_counts_as_its_own(autojump_clock, watched, user, at_once):
    await watched.save(user(1, "a"))
    watched.store.sound_commits, watched.store.error = 0, OutcomeUnknown("the connection was lost")
    watched.store.lost_after_commit = True
    load = watched.store._store.load
    watched.store.load = load
    wanted = [StartRequest("w", {}, flow_id=f"f-{number}") for number in range(at_once)]
    assert await watched.starts.start_many(wanted) == [StartOutcome(one.flow_id, True, 1) for one in wanted]
    watched.store.sound_commits = float("inf")
    assert await watched.starts.start_many(wanted) == [StartOutcome(one.flow_id, False, 1) for one in wanted]


async def test_rest_says_what_is_there(autojump_clock, watched, client, user):
    await watched.save(user(1, "a"))
    start = {"name": "w", "flowId": "f", "input": {"n": 1}}
    assert await execute(client, start) == (200, {"flowId": "f", "created": True})
    assert await execute(client, start) == (200, {"flowId": "f", "created": False})
    status, answer = await execute(client, {**start, "input": {"n": 2}})
    assert status == 409
    assert answer["details"][0] == {"message": "flow f is of workflow 'w' in version 1", "pointer": "/flowId"}
    assert answer["details"][1] == {"message": "its input is another one", "pointer": "/input"}


async def test_a_start_does_not_wait_for_the_scripts_of_another(autojump_clock, engine, user, monkeypatch):
    script = {"id": 1, "type": "system", "name": "javascript", "expression": "set x"}
    await engine.save(script, name="slow")
    await engine.save(user(1, "a"))
    evaluate = engine.scripts.evaluate

    async def slowly(*args):
        await trio.sleep(20)
        return await evaluate(*args)

    monkeypatch.setattr(engine.scripts, "evaluate", slowly)
    times = {}

    async def begin(name, flow_id):
        assert await engine.start(name, {}, flow_id=flow_id) == StartOutcome(flow_id, True, 1)
        times[flow_id] = trio.current_time()

    began = trio.current_time()
    async with trio.open_nursery() as clients:
        for number in range(5):
            clients.start_soon(begin, "slow", f"slow-{number}")
            clients.start_soon(begin, "w", f"quick-{number}")
    assert {flow_id: round(at - began) for flow_id, at in times.items()} == {
        **{f"slow-{number}": 20 for number in range(5)},
        **{f"quick-{number}": 0 for number in range(5)},
    }


async def test_a_start_whose_client_leaves_does_not_hold_up_the_others_of_its_turn(autojump_clock, watched, user):
    await watched.save(user(1, "a"))
    await watched.catalog.newest_version("w")
    begun = []

    async def begin(number, seconds):
        with trio.move_on_after(seconds):
            begun.append(await watched.start("w", {}, flow_id=f"f-{number}"))

    async with trio.open_nursery() as clients:
        for number in range(10):
            clients.start_soon(begin, number, 0.5 if number < 3 else 30)
    assert {one.flow_id for one in begun} >= {f"f-{number}" for number in range(3, 10)}
    assert all(one.created for one in begun)
    assert len(await ids(watched)) == watched.observer.started == 10
