"""The stream of a worker, as a server carries it: a real orchestrator on the reference store, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from orchy.rpc.api import session
from orchy.rpc.api.limits import SessionTiming
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.framing import Code
from tests.rpc.streams import STREAM_TIMEOUT_SECONDS, quiet, result_for

# Work.


async def test_work_comes_as_it_appears_for_as_many_as_there_is_credit(autojump_clock, node):
    early = await node.start(2)
    async with node.worker() as worker:
        await quiet()
        assert worker.actions == []
        await worker.credit("a", 3)
        assert [action.flowId for action in worker.actions] == early
        late = await node.start(3)
        assert [action.flowId for action in worker.actions] == [*early, late[0]]
        await worker.credit("a", 1)
        assert [action.flowId for action in worker.actions] == [*early, *late[:2]]
        assert {action.timeoutSeconds for action in worker.actions} == {STREAM_TIMEOUT_SECONDS}
        assert (await node.engine.queries.history(late[0]))[-1].worker == "tester"


async def test_each_action_has_credit_of_its_own(autojump_clock, node):
    async with node.worker() as worker:
        await worker.credit("b", 5)
        await node.start(2, "only a")
        assert worker.actions == []
        await node.start(2, "only b")
        assert [action.actionName for action in worker.actions] == ["b", "b"]
        await worker.credit("a", 1)
        assert [action.actionName for action in worker.actions] == ["b", "b", "a"]


async def test_credit_that_is_taken_back_is_not_used(autojump_clock, node):
    async with node.worker() as worker:
        await worker.credit("a", 5)
        await worker.credit("a", -4)
        await node.start(3)
        assert len(worker.actions) == 1
        await worker.credit("a", -1)
        await worker.credit("a", 1)  # as much as there was
        assert len(worker.actions) == 1
        await worker.credit("a", 1)
        assert len(worker.actions) == 2


async def test_streams_have_their_turn(autojump_clock, node):
    async with node.worker() as first, node.worker() as second:
        await first.credit("a", 10)
        await second.credit("a", 10)
        await node.start(6)
        assert (len(first.actions), len(second.actions)) == (3, 3)


async def test_a_poll_and_a_stream_side_by_side_both_get_work(autojump_clock, node):
    async with node.worker() as worker:
        await worker.credit("a", 1)
        await node.start(3)
        assert len(await node.poll()) == 2
        assert len(worker.actions) == 1


# Results.


async def test_each_message_is_answered_whichever_is_done_first(autojump_clock, node):
    await node.start(2)
    async with node.worker() as worker:
        await worker.credit("a", 2)
        first, second = worker.actions
        node.store.commit_seconds = 2.0
        slow = await worker.say(results=[result_for(first)])
        await trio.sleep(1)
        node.store.commit_seconds = 0.0
        quick = await worker.say(results=[result_for(second)])
        await trio.sleep(0.5)
        assert [taken.number for taken in worker.taken] == [quick]
        await trio.sleep(1)
        assert [taken.number for taken in worker.taken] == [quick, slow]


async def test_results_are_answered_in_their_order_and_what_follows_comes(autojump_clock, node):
    flow_ids = await node.start(2)
    async with node.worker() as worker:
        await worker.credit("a", 2)
        await worker.credit("b", 2)
        first, second = worker.actions
        nobodys = pb.ActionResult(flowId="nobody", actionId=1, retryCount=1)
        wrong = pb.ActionResult(flowId=flow_ids[0], actionId=99, retryCount=1)
        number = await worker.say(results=[result_for(second), nobodys, wrong, result_for(first)])
        again = await worker.say(results=[result_for(first)])
        await quiet()
        answers = {taken.number: taken.outcomes for taken in worker.taken}
        assert [(o.status, o.code) for o in answers[number]] == [
            (True, 0),
            (False, 0),
            (False, Code.INVALID_ARGUMENT),
            (True, 0),
        ]
        assert "99" in answers[number][2].message
        assert [(o.status, o.code) for o in answers[again]] == [(True, 0)]
        assert sorted(action.flowId for action in worker.actions[2:]) == sorted(flow_ids)
        await worker.say(results=[result_for(action) for action in worker.actions[2:]])
        await quiet()
        for flow_id in flow_ids:
            assert (await node.engine.queries.flow(flow_id)).state == "COMPLETED"


async def test_a_result_may_be_of_an_attempt_that_came_another_way(autojump_clock, node):
    (flow_id,) = await node.start()
    (action,) = await node.poll()
    async with node.worker() as worker:
        await worker.say(results=[result_for(action)])
        await quiet()
        assert [taken.outcomes[0].status for taken in worker.taken] == [True]
    assert (await node.types(flow_id)).count("COMPLETED") == 1


async def test_the_stores_trouble_is_each_results_answer(autojump_clock, node):
    await node.start()
    (action,) = await node.poll()
    async with node.worker() as worker:
        node.store.broken = True
        node.engine.catalog._actions_until = float("-inf")
        await worker.say(results=[result_for(action)] * 2)
        await quiet()
        (taken,) = worker.taken
        assert [(outcome.code, outcome.message) for outcome in taken.outcomes] == [
            (Code.UNAVAILABLE, "the store is gone")
        ] * 2
        node.store.broken = False
        await worker.say(results=[result_for(action)])
        await quiet()
        assert worker.taken[1].outcomes[0].status


async def test_an_error_that_nobody_foresaw_ends_that_stream_and_no_other(autojump_clock, node, monkeypatch, caplog):
    await node.start()
    async with node.worker() as worker, node.worker() as other:
        await other.credit("a", 1)
        (action,) = other.actions

        async def fail(*args: Any) -> Any:
            raise RuntimeError("a bug")

        with monkeypatch.context() as patch:
            patch.setattr(session, "push_all", fail)
            await worker.say(results=[result_for(action)])
            await worker.ended.wait()
        assert worker.status is not None
        assert worker.status.code is Code.INTERNAL
        assert "a bug" in caplog.text
        await other.say(results=[result_for(action)])
        await quiet()
        assert other.taken[0].outcomes[0].status
        assert node.sessions.open == 1


# Extensions.


async def test_an_extension_is_answered_for_each_attempt(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await worker.credit("a", 1)
        await trio.sleep(STREAM_TIMEOUT_SECONDS * 0.9)
        attempts = [pb.Attempt(flowId=flow_id, actionId=1, retryCount=n) for n in (1, 2)]
        number = await worker.say(extend=attempts)
        await quiet()
        assert [(e.number, list(e.extended)) for e in worker.extended] == [(number, [True, False])]
        await trio.sleep(STREAM_TIMEOUT_SECONDS * 0.9)
        assert "TIMED_OUT" not in await node.types(flow_id)
        await trio.sleep(STREAM_TIMEOUT_SECONDS * 0.2)
        assert "TIMED_OUT" in await node.types(flow_id)
        await worker.say(extend=attempts[:1])
        await quiet()
        assert list(worker.extended[1].extended) == [False]


async def test_what_the_store_can_not_extend_just_now_is_not_said_to_be_over(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await worker.credit("a", 1)
        node.store.broken = True
        await worker.say(extend=[pb.Attempt(flowId=flow_id, actionId=1, retryCount=1)])
        await quiet()
        assert list(worker.extended[0].extended) == [True]


# Goodbyes.


async def test_a_worker_that_says_goodbye_gets_what_is_on_its_way_and_brings_its_results(autojump_clock, node):
    async with node.worker() as worker:
        await worker.credit("a", 5)
        node.store.commit_seconds = 1.0
        node.nursery.start_soon(node.start)
        await trio.sleep(0.5)  # its commit is made, and its answer is on its way
        await worker.say(goodbye=True)
        await worker.say(credits=[pb.Credit(actionName="a", count=5)])  # means nothing any more
        await quiet()
        assert (worker.actions, worker.goodbyes) == ([], 0)
        await trio.sleep(1)
        assert (len(worker.actions), worker.goodbyes) == (1, 1)
        node.store.commit_seconds = 0.0
        (flow_id,) = await node.start()
        assert [action.flowId for action in await node.poll()] == [flow_id]
        await worker.say(results=[result_for(worker.actions[0])])
        await quiet()
        assert worker.taken[0].outcomes[0].status
        worker.stream.end()
        await worker.ended.wait()
        assert worker.status is None
    assert node.sessions.open == 0


async def test_a_server_that_stops_says_goodbye_and_takes_results_until_it_drains(autojump_clock, node):
    await node.start()
    async with node.worker() as worker:
        await worker.credit("a", 5)
        node.engine.dispatcher.close()
        await quiet()
        assert worker.goodbyes == 1
        await worker.credit("a", 5)
        await node.start()
        assert len(worker.actions) == 1
        await worker.say(results=[result_for(worker.actions[0])])
        await quiet()
        assert worker.taken[0].outcomes[0].status
        (connection,) = node.connections
        connection.drain()
        await worker.ended.wait()
        assert (worker.status, worker.goodbyes) == (None, 1)
        await connection.wait_drained()


async def test_results_that_are_under_way_when_the_server_drains_are_answered(autojump_clock, node):
    await node.start()
    async with node.worker() as worker:
        await worker.credit("a", 1)
        node.store.commit_seconds = 1.0
        await worker.say(results=[result_for(worker.actions[0])])
        await trio.sleep(0.5)
        node.connections[0].drain()
        await worker.ended.wait()
        assert worker.taken[0].outcomes[0].status
        assert worker.status is None


async def test_a_stream_on_which_nothing_is_said_ends_well(autojump_clock, node):
    async with node.worker() as worker:
        worker.stream.end()
        await worker.ended.wait()
        assert worker.status is None


# Workers that go away, or do not read.


async def test_what_was_handed_out_to_a_worker_that_has_gone_goes_back(autojump_clock, node):
    async with node.worker() as worker:
        await worker.credit("a", 2)
        node.store.commit_seconds = 1.0
        node.nursery.start_soon(node.start, 1)
        await trio.sleep(0.5)
    await trio.sleep(1)
    (action,) = await node.poll()
    assert (await node.types(action.flowId))[-3:] == ["HANDED_OUT", "GIVEN_BACK", "HANDED_OUT"]
    assert node.sessions.open == 0


@pytest.mark.parametrize("node", [{"timing": SessionTiming(settle_seconds=0.1)}], indirect=True)
async def test_what_comes_when_the_session_is_long_over_goes_back_too(autojump_clock, node):
    async with node.worker() as worker:
        await worker.credit("a", 2)
        node.store.commit_seconds = 5.0
        node.nursery.start_soon(node.start, 1)
        await trio.sleep(0.5)
    await trio.sleep(1)
    assert node.sessions.open == 0
    await trio.sleep(5)
    assert len(await node.poll()) == 1


async def test_results_of_a_worker_that_has_gone_count(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await worker.credit("a", 1)
        node.store.commit_seconds = 1.0
        await worker.say(results=[result_for(worker.actions[0])])
        await quiet()
    await trio.sleep(2)
    assert "COMPLETED" in await node.types(flow_id)
