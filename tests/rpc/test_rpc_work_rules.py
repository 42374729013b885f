"""Rules of the stream that docs/protocol.md gives to whoever writes a worker."""

from __future__ import annotations

import trio

from orchy.flow.definition import ActionDefinition
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.framing import Code
from tests.rpc.streams import LEASE_SECONDS, STREAM_TIMEOUT_SECONDS, quiet, result_for

A = [pb.Credit(actionName="a", count=1)]
B = [pb.Credit(actionName="b", count=1)]


def attempt_of(action, **fields):
    return pb.Attempt(flowId=action.flowId, actionId=action.actionId, retryCount=action.retryCount, **fields)


async def test_credit_that_is_given_before_the_worker_renews_has_no_leases(autojump_clock, node):
    await node.start(2)
    async with node.worker() as worker:
        await worker.say(workerId="late", credits=A)
        await worker.say(renews=True)
        await worker.say(credits=A)
        await quiet()
        assert len(worker.actions) == 2
        assert worker.lease_ms == LEASE_SECONDS * 1000
    # Nothing is heard of it, and its attempts end by their timeouts only.
    await trio.sleep(STREAM_TIMEOUT_SECONDS - 2)
    assert [(await node.types(action.flowId))[-1] for action in worker.actions] == ["HANDED_OUT"] * 2


async def test_the_name_of_the_first_message_stays(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await worker.say(workerId="first")
        await worker.say(workerId="second", credits=A)
        await quiet()
    assert (await node.engine.queries.history(flow_id))[-1].worker == "first"


async def test_credit_beside_a_result_is_there_for_what_the_result_brings_about(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await worker.say(workerId="w", renews=True, credits=A)
        await quiet()
        await worker.say(results=[result_for(worker.actions[0])], credits=B)
        await quiet()
        assert [(action.flowId, action.actionName) for action in worker.actions] == [(flow_id, "a"), (flow_id, "b")]
        assert (await node.types(flow_id))[-2:] == ["SCHEDULED", "HANDED_OUT"], "it passed through no queue"


async def test_of_a_message_that_breaks_a_rule_nothing_is_taken(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await worker.credit("a", 1)
        bad = [pb.Credit(actionName="", count=1)]
        await worker.say(results=[result_for(worker.actions[0])], credits=bad)
        await worker.ended.wait()
        assert worker.status.code is Code.INVALID_ARGUMENT
        assert worker.taken == []
    assert "COMPLETED" not in await node.types(flow_id)


async def test_each_result_has_its_own_outcome(autojump_clock, node):
    await node.start()
    async with node.worker() as worker:
        await worker.credit("a", 1)
        (action,) = worker.actions
        good = result_for(action)
        nan = result_for(action)
        nan.data["n"].number_value = float("nan")
        other_action = result_for(action)
        other_action.actionId = 7
        no_flow = pb.ActionResult(flowId="nobody", actionId=1, retryCount=1)
        await worker.say(results=[nan, pb.ActionResult(), other_action, no_flow, good, good])
        await quiet()
        (taken,) = worker.taken
        assert [(outcome.code, outcome.status) for outcome in taken.outcomes] == [
            (Code.INVALID_ARGUMENT, False),
            (Code.INVALID_ARGUMENT, False),
            (Code.INVALID_ARGUMENT, False),
            (0, False),
            (0, True),
            (0, True),
        ]


async def test_of_a_success_and_a_failure_the_first_counts(autojump_clock, node):
    flow_ids = await node.start(2, workflow="only a")
    async with node.worker() as worker:
        await worker.credit("a", 2)
        for action, order in zip(worker.actions, ((0, 1), (1, 0)), strict=True):
            for status in order:
                await worker.say(results=[result_for(action, status=status)])
                await quiet()
        assert all(taken.outcomes[0].status for taken in worker.taken)
    first, second = flow_ids
    assert (await node.engine.queries.flow(first)).state == "COMPLETED"
    assert "COMPLETED" not in await node.types(second)
    assert (await node.types(second)).count("LATE") == 1


async def test_what_is_over_may_be_held_missed_and_extended_without_harm(autojump_clock, node):
    (flow_id,) = await node.start(workflow="only a")
    async with node.worker() as worker:
        await worker.say(workerId="w", renews=True, credits=A)
        await quiet()
        (action,) = worker.actions
        await worker.say(results=[result_for(action)])
        await quiet()
        before = await node.types(flow_id)
        over = [attempt_of(action), pb.Attempt(flowId="nobody", actionId=1, retryCount=1)]
        number = await worker.say(holding=over, missing=over, upMillis=10**9, extend=over)
        await trio.sleep(1.5 * LEASE_SECONDS / 3)
        assert [(said.number, list(said.extended)) for said in worker.extended] == [(number, [False, False])]
        assert await node.types(flow_id) == before
        assert worker.status is None


async def test_an_attempt_whose_timeout_is_not_longer_than_a_lease_has_none(autojump_clock, node):
    await node.engine.catalog.save_action(ActionDefinition("a", retry_count=2, timeout_seconds=LEASE_SECONDS))
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await worker.say(workerId="w", renews=True, credits=A)
        await quiet()
        assert len(worker.actions) == 1
    await trio.sleep(LEASE_SECONDS + 2)
    types = await node.types(flow_id)
    assert "TIMED_OUT" in types
    assert "WORKER_LOST" not in types


async def test_an_end_without_a_goodbye_gives_back_what_has_not_left(autojump_clock, node):
    async with node.worker() as worker:
        await worker.credit("a", 5)
        node.store.commit_seconds = 1.0
        node.nursery.start_soon(node.start)
        await trio.sleep(0.5)
        worker.stream.end()
        await worker.ended.wait()
        assert worker.status is None
        await trio.sleep(1)
        assert len(worker.actions) + len(await node.poll()) == 1
