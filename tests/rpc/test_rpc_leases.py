"""Workers that say that they live, and those that do not any more: leases of what came on a stream, in virtual time."""

from __future__ import annotations

import trio

from orchy.errors import StoreUnavailable
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.framing import Code
from tests.rpc.streams import LEASE_SECONDS, STREAM_TIMEOUT_SECONDS, quiet, result_for

SLACK_SECONDS = 2.5  # a look at the timers, and a question to a worker
YEAR_MS = 365 * 24 * 3_600_000


def attempt_of(action):
    return pb.Attempt(flowId=action.flowId, actionId=action.actionId, retryCount=action.retryCount)


async def give_credit(worker, name="a", count=1, worker_id="tester"):
    await worker.say(workerId=worker_id, renews=True, credits=[pb.Credit(actionName=name, count=count)])
    await quiet()


async def live(worker, seconds, **fields):
    """Say something now and then."""
    for _ in range(round(seconds / 1.5)):
        await worker.say(**fields)
        await trio.sleep(1.5)


async def test_a_worker_that_renews_is_told_the_lease_and_others_are_not(autojump_clock, node):
    async with node.worker() as worker, node.worker() as other:
        await give_credit(worker)
        await other.credit("a", 1)
        assert (worker.lease_ms, other.lease_ms) == (LEASE_SECONDS * 1000, 0)


async def test_what_a_worker_holds_that_speaks_is_its_own_until_the_time_out(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await give_credit(worker)
        await live(worker, STREAM_TIMEOUT_SECONDS - 2)
        assert "WORKER_LOST" not in await node.types(flow_id)
        assert node.sessions.leased == 1
        await worker.say(results=[result_for(worker.actions[0])])
        await quiet()
        assert node.sessions.leased == 0
        assert worker.taken[0].outcomes[0].status


async def test_a_worker_that_falls_silent_is_lost_and_costs_an_attempt(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.worker() as worker, node.worker() as other:
        await give_credit(worker)
        await live(worker, 2 * LEASE_SECONDS)
        fell_silent_at = trio.current_time()
        await give_credit(other, worker_id="other", count=5)
        while not other.actions:
            await live(other, 1.5)
        assert trio.current_time() - fell_silent_at <= LEASE_SECONDS + SLACK_SECONDS
        (action,) = other.actions
        assert (action.flowId, action.retryCount) == (flow_id, 2)
        assert (await node.types(flow_id))[-5:] == ["WORKER_LOST", "RETRY", "MISSING", "SCHEDULED", "HANDED_OUT"]
        (lost,) = [line for line in await node.engine.queries.history(flow_id) if line.type.name == "WORKER_LOST"]
        assert lost.worker == "tester"
        await live(other, LEASE_SECONDS)
        assert worker.status.code is Code.UNAVAILABLE


async def test_a_node_that_stalled_does_not_take_its_workers_for_silent(autojump_clock, node):
    """What they sent meanwhile is not read yet."""
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await give_credit(worker)
        await live(worker, LEASE_SECONDS)
        autojump_clock.jump(1.5 * LEASE_SECONDS)
        await quiet()
        await worker.say(holding=list(worker.asks))
        await live(worker, LEASE_SECONDS)
        assert worker.status is None
        assert "WORKER_LOST" not in await node.types(flow_id)


async def test_a_stream_that_ends_takes_no_more_work_while_its_results_are_with_a_slow_store(autojump_clock, node):
    """What it took would lie there until its own lease is over, and be counted as lost."""
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await give_credit(worker, count=9)
        node.store.commit_seconds = 60.0
        await worker.say(results=[result_for(worker.actions[0])])
        await trio.sleep(2 * LEASE_SECONDS)  # it falls silent
        assert worker.status.code is Code.UNAVAILABLE
        node.store.commit_seconds = 0.0
        (new_id,) = await node.start()
        assert [action.flowId for action in await node.poll()] == [new_id]
        assert (await node.types(new_id))[-1] == "HANDED_OUT"
    await trio.sleep(60)
    assert "COMPLETED" in await node.types(flow_id)


async def test_what_has_not_left_goes_back_at_once_while_results_are_with_a_slow_store(autojump_clock, node):
    """That of a worker whose connection broke, too."""
    await node.start()
    async with node.worker() as worker:
        await give_credit(worker, count=9)
        node.store.commit_seconds = 60.0
        await worker.say(results=[result_for(worker.actions[0])])
        await quiet()
        node.store.commit_seconds = 1.0
        node.nursery.start_soon(node.start)
        await trio.sleep(0.5)
    await trio.sleep(1)
    (action,) = await node.poll()
    assert (await node.types(action.flowId))[-3:] == ["HANDED_OUT", "GIVEN_BACK", "HANDED_OUT"]
    node.store.commit_seconds = 0.0
    (new_id,) = await node.start()
    assert [action.flowId for action in await node.poll()] == [new_id]


async def test_when_the_last_attempt_is_lost_the_flow_fails_and_says_so(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await give_credit(worker, count=1)
        await trio.sleep(LEASE_SECONDS + SLACK_SECONDS)
        async with node.worker() as second:
            await give_credit(second, count=1)
            assert [action.retryCount for action in second.actions] == [2]
        await trio.sleep(LEASE_SECONDS + SLACK_SECONDS)
    flow = await node.engine.queries.flow(flow_id)
    assert flow.state == "FAILED"
    assert "failed on attempt 2: Worker.Lost: the worker tester" in flow.error


async def test_a_connection_that_broke_leaves_the_rest_of_the_lease(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await give_credit(worker)
    broke_at = trio.current_time()
    await trio.sleep(LEASE_SECONDS / 2)
    assert "WORKER_LOST" not in await node.types(flow_id)
    while "WORKER_LOST" not in await node.types(flow_id):
        await trio.sleep(0.1)
    assert trio.current_time() - broke_at <= LEASE_SECONDS + SLACK_SECONDS


async def test_a_worker_that_comes_back_keeps_what_it_holds(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await give_credit(worker)
        (action,) = worker.actions
    await trio.sleep(LEASE_SECONDS - 1)
    async with node.worker() as again:
        await again.say(workerId="tester", renews=True, holding=[attempt_of(action)])
        await live(again, 2 * LEASE_SECONDS)
        assert node.sessions.leased == 1
        await again.say(results=[result_for(action)])
        await quiet()
    assert "WORKER_LOST" not in await node.types(flow_id)
    assert "COMPLETED" in await node.types(flow_id)


async def test_a_worker_that_stops_may_come_back_with_a_goodbye_and_keeps_what_it_holds(autojump_clock, node):
    """Its stream broke while it was finishing what it held."""
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await give_credit(worker)
        (action,) = worker.actions
    async with node.worker() as again:
        await again.say(workerId="tester", renews=True, holding=[attempt_of(action)], goodbye=True)
        await live(again, 2 * LEASE_SECONDS)
        assert again.goodbyes == 1
        await again.say(results=[result_for(action)])
        await quiet()
        assert again.taken[0].outcomes[0].status
    assert "WORKER_LOST" not in await node.types(flow_id)
    assert "COMPLETED" in await node.types(flow_id)


async def test_a_worker_whose_lease_ran_out_is_asked_and_keeps_what_it_holds(autojump_clock, node):
    """As when the node that had handed it out is gone: nobody renews, and the owner of the partition asks."""
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await give_credit(worker)
        node.sessions._leases = Broken()  # this node does not renew
        while not worker.asks:
            await live(worker, 1.5)
        assert [(ask.flowId, ask.retryCount) for ask in worker.asks] == [(flow_id, 1)]
        await worker.say(holding=list(worker.asks))
        await live(worker, LEASE_SECONDS / 2)
        assert "WORKER_LOST" not in await node.types(flow_id)


async def test_what_the_worker_never_received_uses_up_no_attempt(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.worker() as worker, node.worker() as other:
        await give_credit(worker)
        node.sessions._leases = Broken()
        await give_credit(other, worker_id="other", count=5)
        while not worker.asks:
            await live(worker, 1.5)
        await worker.say(missing=list(worker.asks), upMillis=YEAR_MS)
        await quiet()
        (action,) = other.actions
        assert (action.flowId, action.retryCount) == (flow_id, 1)
        assert (await node.types(flow_id))[-4:] == ["GIVEN_BACK", "MISSING", "SCHEDULED", "HANDED_OUT"]


async def test_what_another_process_of_the_worker_had_is_lost(autojump_clock, node):
    """Or an attempt that ends each process would be tried for ever."""
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await give_credit(worker)
        node.sessions._leases = Broken()
        while not worker.asks:
            await live(worker, 1.5)
        await worker.say(missing=list(worker.asks), upMillis=1)
        await quiet()
        assert "WORKER_LOST" in await node.types(flow_id)


async def test_a_worker_that_speaks_and_does_not_answer_is_asked_once_in_a_while(autojump_clock, node):
    flow_ids = await node.start(3)
    async with node.worker() as worker:
        await give_credit(worker, count=3)
        node.sessions._leases = Broken()
        await live(worker, LEASE_SECONDS + SLACK_SECONDS + 3)
        assert len(worker.asks) >= 1
        for flow_id in flow_ids:
            assert "WORKER_LOST" in await node.types(flow_id)


async def test_old_workers_have_no_lease(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await worker.credit("a", 1)
        await trio.sleep(STREAM_TIMEOUT_SECONDS - 1)
        assert (await node.types(flow_id))[-1] == "HANDED_OUT"
        assert worker.status is None
        await trio.sleep(3)
        assert "TIMED_OUT" in await node.types(flow_id)


async def test_too_much_that_is_held_in_one_message_ends_the_stream(autojump_clock, node):
    async with node.worker() as worker:
        await worker.say(workerId="w", renews=True, holding=[pb.Attempt(flowId="f")] * 1001)
        await worker.ended.wait()
        assert worker.status.code is Code.INVALID_ARGUMENT


async def test_a_poller_may_lease_what_it_gets(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.connect() as channel:

        async def call(method, message, reply):
            return await channel.call(f"ActionService/{method}", message, reply)

        request = pb.ActionPollRequest(actionType="a", batchSize=1, workerId="poller", leaseMillis=1)
        (action,) = (await call("Poll", request, pb.Actions)).actions
        renewal = pb.RenewRequest(workerId="poller", leaseMillis=1, attempts=[attempt_of(action), pb.Attempt()])
        for _ in range(3):
            await trio.sleep(4)  # the least lease is 5 s
            assert list((await call("Renew", renewal, pb.RenewResponse)).renewed) == [True, False]
        assert (await node.types(flow_id))[-1] == "HANDED_OUT"
        await trio.sleep(5 + SLACK_SECONDS)
        assert "WORKER_LOST" in await node.types(flow_id)


async def test_what_is_handed_out_on_streams_is_counted_and_what_polls_get(autojump_clock, node):
    await node.start(2)
    async with node.worker() as worker:
        await give_credit(worker, count=3)  # from the queue
        await node.start(1)  # by the commit
        assert node.sessions.handed_out_total == len(worker.actions) == 3
    await node.start(2)
    assert len(await node.poll()) == node.engine.dispatcher.handed_out == 2
    await trio.sleep(1)
    assert node.sessions.handed_out_total == 3


class Broken:
    """A node that can't renew."""

    async def renew(self, attempts, lease_ms):
        raise StoreUnavailable("not here")
