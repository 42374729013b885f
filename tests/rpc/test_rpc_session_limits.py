"""What a worker's stream can't do to a server: make it keep, or wait for, more than it may."""

from __future__ import annotations

import gc

import h2.exceptions
import pytest
import trio
import trio.testing

from orchy.rpc.api.limits import LIMITS, SessionLimits
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.generated.action_service_grpc import ActionServiceServicer
from orchy.rpc.grpc.call import BufferQuota
from orchy.rpc.grpc.connection import Connection
from orchy.rpc.grpc.framing import Code, frame
from orchy.rpc.grpc.services import methods_of
from tests.rpc.streams import quiet, result_for


@pytest.mark.parametrize("node", [{"limits": SessionLimits(unsent_bytes_max=300_000)}], indirect=True)
async def test_a_worker_that_does_not_read_is_handed_little_and_all_of_it_goes_back(autojump_clock, node, deaf_worker):
    text = "x" * 50_000
    deaf = await deaf_worker()
    await deaf.say(credits=[pb.Credit(actionName="a", count=100)])
    flow_ids = await node.start(40, input={"text": text})
    handed_out = [flow_id for flow_id in flow_ids if "HANDED_OUT" in await node.types(flow_id)]
    assert 300_000 / len(text) <= len(handed_out) < 2 * 300_000 / len(text) + 2
    async with node.worker() as worker:  # others get the rest
        await worker.credit("a", 100)
        assert len(worker.actions) == 40 - len(handed_out)
    await deaf.client.stream.aclose()
    await trio.sleep(1)
    left = await node.poll()
    # What fitted into the client's window of 64 KiB was sent.
    assert len(handed_out) - 1 <= len(left) <= len(handed_out)


@pytest.mark.parametrize("node", [{"limits": SessionLimits(unsent_bytes_max=300_000)}], indirect=True)
async def test_a_worker_that_reads_again_gets_more(autojump_clock, node, deaf_worker):
    deaf = await deaf_worker()
    await deaf.say(credits=[pb.Credit(actionName="a", count=100)])
    flow_ids = await node.start(40, input={"text": "x" * 50_000})
    for _ in range(10):
        await deaf.listen(300_000)
    assert all(["HANDED_OUT" in await node.types(flow_id) for flow_id in flow_ids])


@pytest.mark.parametrize("node", [{"limits": SessionLimits(credit_max=20)}], indirect=True)
async def test_credit_does_not_grow_while_nothing_is_read(autojump_clock, node, deaf_worker):
    deaf = await deaf_worker()
    await node.start(60, input={"text": "x" * 50_000})
    for _ in range(3):
        await deaf.say(credits=[pb.Credit(actionName="a", count=10)])
    assert len(await node.poll()) == 50  # ten are on their way
    await deaf.listen(2**20)
    assert await deaf.client.status(deaf.stream_id) == str(int(Code.INVALID_ARGUMENT))


async def test_a_worker_that_pushes_and_takes_no_answer_is_held_up_by_its_window(autojump_clock, node, deaf_worker):
    deaf = await deaf_worker()
    result = pb.ActionResult(flowId="nobody", actionId=1, retryCount=1)
    said = 0
    with pytest.raises(h2.exceptions.FlowControlError):
        while said < 500:
            await deaf.say(number=said, results=[result] * LIMITS.items_max)
            await deaf.listen()
            said += 1
    assert node.sessions.open == 1
    for _ in range(10):
        await deaf.listen(2**20)
    await deaf.say(number=said, results=[result])  # there is room again


# What a stream can't say.

TOO_MANY = [pb.Credit(actionName=str(number), count=1) for number in range(LIMITS.actions_max + 1)]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"credits": [pb.Credit(actionName="", count=1)]}, "actionName"),
        ({"credits": [pb.Credit(actionName="x" * 257, count=1)]}, "actionName"),
        ({"credits": [pb.Credit(actionName="a", count=LIMITS.credit_max + 1)]}, "credit"),
        ({"credits": [pb.Credit(actionName=name, count=LIMITS.credit_max) for name in "ab"]}, "credit"),
        ({"credits": [pb.Credit(actionName="a", count=count) for count in (5, -LIMITS.credit_max, -6)]}, "taken back"),
        ({"credits": TOO_MANY}, "actions"),
        ({"results": [pb.ActionResult(flowId="f")] * 1_001}, "at most 1000"),
        ({"extend": [pb.Attempt(flowId="f")] * 1_001}, "at most 1000"),
    ],
)
async def test_what_can_not_be_ends_the_stream_with_a_sentence(autojump_clock, node, fields, said):
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await worker.credit("a", 1)
        number = await worker.say(results=[result_for(worker.actions[0])])
        await worker.say(**fields)
        await worker.ended.wait()
        assert worker.status is not None
        assert worker.status.code is Code.INVALID_ARGUMENT
        assert said in worker.status.message
        assert [taken.number for taken in worker.taken] == [number]
    assert "COMPLETED" in await node.types(flow_id)
    assert node.sessions.open == 0


async def test_a_message_that_is_none_ends_the_stream(autojump_clock, node, deaf_worker):
    deaf = await deaf_worker()
    deaf.client.http.send_data(deaf.stream_id, frame(b"\xff\xff\xff"))
    await deaf.client.flush()
    assert await deaf.client.status(deaf.stream_id) == str(int(Code.INVALID_ARGUMENT))
    await quiet()
    assert node.sessions.open == 0


async def test_a_name_of_a_worker_is_cut_as_polls_cut_it(autojump_clock, node):
    (flow_id,) = await node.start()
    async with node.worker() as worker:
        await worker.say(workerId="w" * 300, credits=[pb.Credit(actionName="a", count=1)])
        await quiet()
    assert (await node.engine.queries.history(flow_id))[-1].worker == "w" * 256


@pytest.mark.parametrize("node", [{"limits": SessionLimits(sessions_max=1)}], indirect=True)
async def test_there_are_not_more_streams_than_a_server_takes(autojump_clock, node):
    async with node.worker() as first:
        await first.credit("a", 1)
        async with node.worker() as second:
            await second.ended.wait()
            assert second.status is not None
            assert second.status.code is Code.UNAVAILABLE
    await quiet()
    async with node.worker() as third:
        await third.credit("a", 1)
        await node.start()
        assert len(third.actions) == 1


async def test_a_streams_deadline_ends_it_and_gives_back(autojump_clock, node, raw):
    ours, theirs = trio.testing.memory_stream_pair()
    node.serve(theirs)
    client = raw(ours)
    await client.greet()
    stream_id = client.open("/ActionService/Work", grpc_timeout="2S")
    message = pb.WorkerMessage(credits=[pb.Credit(actionName="a", count=5)])
    client.http.send_data(stream_id, frame(message.SerializeToString()))
    await client.flush()
    assert await client.status(stream_id) == str(int(Code.DEADLINE_EXCEEDED))
    await quiet()
    assert node.sessions.open == 0
    (flow_id,) = await node.start()
    assert [action.flowId for action in await node.poll()] == [flow_id]


async def test_a_servicer_that_has_no_streams_says_so(autojump_clock, nursery, raw, recwarn):
    ours, theirs = trio.testing.memory_stream_pair()
    connection = Connection(theirs, methods_of([ActionServiceServicer()]), BufferQuota())
    nursery.start_soon(connection.serve)
    client = raw(ours)
    await client.greet()
    stream_id = client.open("/ActionService/Work")
    await client.flush()
    assert await client.status(stream_id) == str(int(Code.UNIMPLEMENTED))
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []
