"""Methods that are not there: said at once, whatever the client goes on to send."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.generated.action_service_grpc import ActionServiceServicer
from orchy.rpc.generated.health_grpc import HealthServicer
from orchy.rpc.grpc.call import BufferQuota
from orchy.rpc.grpc.connection import Connection
from orchy.rpc.grpc.framing import Code
from orchy.rpc.grpc.services import methods_of

UNIMPLEMENTED = str(int(Code.UNIMPLEMENTED))


class OnlyPush(ActionServiceServicer):
    """A servicer of which most was never written."""

    async def Push(self, input_message):
        await trio.lowlevel.checkpoint()
        return pb.ActionResultPushResponse(status=True)


class Later(OnlyPush):
    """One that inherits what was written."""


class Nothing(HealthServicer):
    """One of which nothing was."""


@pytest.fixture
async def client(raw, nursery):
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(Connection(theirs, methods_of([Later(), Nothing()]), BufferQuota()).serve)
    client = raw(ours)
    await client.greet()
    return client


def test_only_what_was_written_is_there():
    assert list(methods_of([Later(), Nothing()])) == ["/ActionService/Push"]


MISSING = [
    "/ActionService/Poll",  # one message, one answer
    "/ActionService/Work",  # streams
    "/grpc.health.v1.Health/Watch",  # a stream of answers
    "/grpc.health.v1.Health/Check",
    "/ActionService/Nothing",
    "/Nothing/Poll",
]


@pytest.mark.parametrize("path", MISSING)
async def test_a_whole_call(client, autojump_clock, caplog, path):
    stream_id = client.request(pb.ActionPollRequest(), path)
    await client.flush()
    assert await client.status(stream_id) == UNIMPLEMENTED
    good = client.request(pb.ActionResult(flowId="f"), "/ActionService/Push")
    await client.flush()
    assert await client.status(good) == "0"
    assert not caplog.records


@pytest.mark.parametrize("path", MISSING)
async def test_a_stream_that_says_nothing_yet(client, autojump_clock, path):
    """The answer does not wait for the request's end, which may never come."""
    began = trio.current_time()
    stream_id = client.open(path)
    await client.flush()
    assert await client.status(stream_id) == UNIMPLEMENTED
    assert trio.current_time() - began < 1
