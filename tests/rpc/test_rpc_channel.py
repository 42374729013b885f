"""The worker library's side of a connection, told what servers say and do, good ones and others. In memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.channel import Channel, ConnectionLost
from orchy.rpc.grpc.framing import Code, Status, frame
from orchy.rpc.grpc.limits import CHANNEL_LIMITS, CHANNEL_TIMING, ChannelLimits
from orchy.rpc.grpc.write_buffer import SEND_SECONDS
from orchy.rpc.http2.events import DataReceived, HeadersReceived, Role, StreamReset
from orchy.rpc.http2.frames import ErrorCode
from orchy.rpc.http2.limits import Http2Limits
from orchy.rpc.http2.machine import Http2
from tests.rpc import wire

HEAD = {":status": "200", "content-type": "application/grpc"}
OK = {"grpc-status": "0"}
REPLY = frame(pb.ActionResultPushResponse(status=True).SerializeToString())


@attrs.define
class Server:
    """A server by hand, and the channel to it."""

    channel: Channel
    stream: trio.StapledStream[Any, Any]
    nursery: trio.Nursery
    http: Http2 = attrs.field(factory=lambda: Http2(Role.SERVER, Http2Limits(100, 70_000, 70_000)))
    events: list[Any] = attrs.field(factory=list)
    outcomes: list[Any] = attrs.field(factory=list)

    async def hear(self) -> None:
        """What the channel says."""
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.001):
            self.events += self.http.receive(await self.stream.receive_some())

    async def say(self, *frames: bytes) -> None:
        """What gathered, and frames."""
        await self.stream.send_all(self.http.data_to_send() + b"".join(frames))
        await trio.testing.wait_all_tasks_blocked()

    async def _call(self) -> None:
        try:
            self.outcomes.append(
                await self.channel.call("S/M", pb.ActionResult(flowId="f"), pb.ActionResultPushResponse)
            )
        except (Status, ConnectionLost) as error:
            self.outcomes.append(error)

    async def calls(self, count: int = 1) -> None:
        """Begin calls, and hear them."""
        for _ in range(count):
            self.nursery.start_soon(self._call)
            await trio.testing.wait_all_tasks_blocked()
        await self.hear()

    @property
    def heard(self) -> list[int]:
        """The streams of the calls that came."""
        return [event.stream_id for event in self.events if isinstance(event, HeadersReceived)]

    def outcome(self) -> Any:
        """What became of the one call; of an error its code, or its kind."""
        (outcome,) = self.outcomes
        self.outcomes.clear()
        if isinstance(outcome, Status):
            return outcome.code
        return type(outcome) if isinstance(outcome, Exception) else outcome.status


def answer(stream: int) -> bytes:
    return wire.headers(stream, HEAD) + wire.data(stream, REPLY) + wire.headers(stream, OK, end=True)


@pytest.fixture
async def server(request: Any) -> AsyncIterator[Server]:
    """A server that was greeted and has greeted; its parameter, if any, is the channel's limits."""
    ours, theirs = trio.testing.memory_stream_pair()
    channel = Channel(ours, "a:1", limits=getattr(request, "param", CHANNEL_LIMITS))
    async with trio.open_nursery() as nursery:
        server = Server(channel, theirs, nursery)
        nursery.start_soon(channel.run)
        await server.hear()
        await server.say()
        await server.hear()
        yield server
        nursery.cancel_scope.cancel()


async def test_a_call_is_a_request_of_grpc(server, autojump_clock):
    await server.calls()
    head, data = server.events[-2:]
    assert head.headers.fields == {
        ":method": "POST",
        ":scheme": "http",
        ":authority": "a:1",
        ":path": "/S/M",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    assert data == DataReceived(1, frame(pb.ActionResult(flowId="f").SerializeToString()), True)
    await server.say(answer(1))
    assert server.outcome() is True


ENDS = {
    "a status": (wire.headers(1, {**HEAD, "grpc-status": "5", "grpc-message": "no"}, end=True), Code.NOT_FOUND),
    "a status that nobody knows": (wire.headers(1, {**HEAD, "grpc-status": "99"}, end=True), Code.UNKNOWN),
    "a status that is no number": (wire.headers(1, {**HEAD, "grpc-status": "x"}, end=True), Code.UNKNOWN),
    "a status after a message": (
        wire.headers(1, HEAD) + wire.data(1, REPLY) + wire.headers(1, {"grpc-status": "14"}, end=True),
        Code.UNAVAILABLE,
    ),
    "no status": (wire.headers(1, HEAD) + wire.headers(1, {"x": "y"}, end=True), Code.UNAVAILABLE),
    "no trailers": (wire.headers(1, HEAD) + wire.data(1, REPLY, end=True), Code.UNAVAILABLE),
    "an error of a proxy": (wire.headers(1, {":status": "503"}) + wire.data(1, b"oh", end=True), Code.UNAVAILABLE),
    "an error of a proxy without a body": (wire.headers(1, {":status": "502"}, end=True), Code.UNAVAILABLE),
    "a reset": (wire.reset(1, wire.INTERNAL_ERROR), Code.UNAVAILABLE),
    "a refusal": (wire.reset(1, wire.REFUSED_STREAM), Code.UNAVAILABLE),
    "no message": (wire.headers(1, HEAD) + wire.headers(1, OK, end=True), Code.INTERNAL),
    "two messages": (wire.headers(1, HEAD) + wire.data(1, 2 * REPLY) + wire.headers(1, OK, end=True), Code.INTERNAL),
    "bytes that are no message": (
        wire.headers(1, HEAD) + wire.data(1, frame(b"\xff\xff")) + wire.headers(1, OK, end=True),
        Code.INTERNAL,
    ),
    "a compressed message": (
        wire.headers(1, HEAD) + wire.data(1, b"\1\0\0\0\0") + wire.headers(1, OK, end=True),
        Code.INTERNAL,
    ),
    "what is no HTTP/2": (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10, ConnectionLost),
    "what may not be in HTTP/2": (wire.window_update(0, 0), ConnectionLost),
    "headers that may not be": (wire.headers(1, {"x": "y"}), Code.UNAVAILABLE),
    "a goodbye that leaves it out": (wire.goaway(0), ConnectionLost),
}


@pytest.mark.parametrize("case", ENDS)
async def test_whatever_a_server_answers_the_call_ends_and_leaves_nothing(server, autojump_clock, case):
    said, outcome = ENDS[case]
    await server.calls()
    began = trio.current_time()
    await server.say(said)
    assert server.outcome() == outcome
    assert trio.current_time() == began
    assert not server.channel._calls
    assert not server.channel._http._streams or outcome is ConnectionLost


async def test_the_end_of_the_connection_is_the_end_of_its_calls(server, autojump_clock):
    await server.calls(3)
    await server.stream.send_stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert [type(outcome) for outcome in server.outcomes] == [ConnectionLost] * 3
    assert not server.channel.open
    with pytest.raises(ConnectionLost):
        await server.channel.call("S/M", pb.ActionResult(), pb.ActionResultPushResponse)
    await server.channel.closed()


async def test_an_answer_before_the_end_of_the_request_gives_the_stream_up(server, autojump_clock):
    async def send() -> None:
        async with server.channel.stream("S/M", pb.ActionResultPushResponse) as stream:
            server.outcomes.append([reply async for reply in stream])

    server.nursery.start_soon(send)
    await server.hear()
    await server.say(answer(1))
    await server.hear()
    assert [len(replies) for replies in server.outcomes] == [1]
    assert server.events[-1] == StreamReset(1, ErrorCode.CANCEL)
    assert not server.channel._http._streams


async def test_a_call_that_is_given_up_is_reset_and_its_late_answer_is_nothing(server, autojump_clock):
    with trio.CancelScope() as scope:
        server.nursery.start_soon(_cancel_when_blocked, scope)
        await server.channel.call("S/M", pb.ActionResult(), pb.ActionResultPushResponse)
    assert scope.cancelled_caught
    await server.hear()
    assert server.events[-1] == StreamReset(1, ErrorCode.CANCEL)
    await server.say(answer(1))
    await server.calls()
    await server.say(answer(3))
    assert server.outcome() is True


async def _cancel_when_blocked(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


async def test_5_1_2_there_are_never_more_calls_than_the_server_takes(server, autojump_clock):
    await server.say(wire.settings((wire.MAX_CONCURRENT_STREAMS, 2)))
    await server.calls(4)
    assert server.heard == [1, 3]
    await server.say(answer(1))
    await server.hear()
    assert server.heard == [1, 3, 5]
    await server.say(wire.settings((wire.MAX_CONCURRENT_STREAMS, 5)))
    await server.hear()
    assert server.heard == [1, 3, 5, 7]
    await server.say(answer(3), answer(5), answer(7))
    assert [outcome.status for outcome in server.outcomes] == [True] * 4


async def test_a_server_that_takes_no_calls_holds_nobody_when_it_is_gone(server, autojump_clock):
    await server.say(wire.settings((wire.MAX_CONCURRENT_STREAMS, 0)))
    await server.calls(2)
    assert server.heard == []
    await server.stream.send_stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert [type(outcome) for outcome in server.outcomes] == [ConnectionLost] * 2


async def test_a_goodbye_lets_what_is_under_way_be_answered_and_takes_nothing_new(server, autojump_clock):
    await server.calls(2)
    await server.say(wire.goaway(1))
    assert server.outcome() is ConnectionLost  # the second one was never looked at
    assert not server.channel.open
    with pytest.raises(ConnectionLost):
        await server.channel.call("S/M", pb.ActionResult(), pb.ActionResultPushResponse)
    await server.say(answer(1))
    assert server.outcome() is True
    await server.channel.closed()


async def test_a_silent_server_is_pinged_and_given_up(server, autojump_clock):
    await server.calls()
    began = trio.current_time()
    await server.channel.closed()
    await trio.testing.wait_all_tasks_blocked()
    assert server.outcome() is ConnectionLost
    waited = trio.current_time() - began
    assert waited == pytest.approx(CHANNEL_TIMING.ping_after_seconds + CHANNEL_TIMING.ping_answer_seconds, abs=1)


async def test_a_server_that_takes_nothing_is_given_up(server, autojump_clock):
    server.channel._stream.send_stream.send_all_hook = trio.sleep_forever
    server.nursery.start_soon(server._call)

    async def chatter() -> None:
        while server.channel.open:
            await trio.sleep(1)
            await server.stream.send_all(wire.frame(wire.PING, 0, 0, b"12345678"))

    began = trio.current_time()
    with trio.fail_after(10 * SEND_SECONDS):
        await chatter()
    assert trio.current_time() - began == pytest.approx(SEND_SECONDS, abs=2)
    await trio.testing.wait_all_tasks_blocked()
    assert server.outcome() is ConnectionLost


async def test_a_connection_that_can_not_be_written_to_is_lost_at_once(server, autojump_clock):
    await server.stream.receive_stream.aclose()
    await server._call()
    assert server.outcome() is ConnectionLost
    assert trio.current_time() < 1


async def test_a_large_request_goes_out_as_the_windows_open(server, autojump_clock):
    done: list[Any] = []

    async def call() -> None:
        request = pb.ActionResult(flowId="x" * 300_000)
        done.append(await server.channel.call("S/M", request, pb.ActionResultPushResponse))

    server.nursery.start_soon(call)
    for _ in range(40):
        await server.hear()
        await server.say()
    data = [event for event in server.events if isinstance(event, DataReceived)]
    assert sum(len(event.data) for event in data) > 300_000
    assert data[-1].ended
    await server.say(answer(1))
    assert len(done) == 1


@pytest.mark.parametrize("server", [ChannelLimits(reply_bytes_max=30_000)], indirect=True)
async def test_an_answer_has_a_limit(server, autojump_clock):
    await server.calls()
    await server.say(wire.headers(1, HEAD), *[wire.data(1, b"x" * 10_000)] * 4)
    assert server.outcome() is Code.RESOURCE_EXHAUSTED
    await server.hear()
    assert server.events[-1] == StreamReset(1, ErrorCode.CANCEL)


async def test_a_stream_whose_last_answer_is_cut_off_does_not_end_well(server, autojump_clock):
    replies: list[Any] = []

    async def read() -> None:
        async with server.channel.stream("S/M", pb.ActionResultPushResponse) as stream:
            stream.end()
            replies.append(await anext(stream))
            try:
                replies.append(await anext(stream))
            except Status as status:
                replies.append(status.code)

    server.nursery.start_soon(read)
    await server.hear()
    await server.say(wire.headers(1, HEAD), wire.data(1, REPLY + REPLY[:3]), wire.headers(1, OK, end=True))
    assert [getattr(reply, "status", reply) for reply in replies] == [True, Code.INTERNAL]
