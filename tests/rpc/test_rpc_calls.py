"""One call on a connection: its headers, its deadline, its messages. In memory, on a mock clock."""

from __future__ import annotations

import h2.events
import pytest
import trio
import trio.testing

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.call import MESSAGE_BYTES_MAX, UNREAD_BYTES_MAX, BufferQuota
from orchy.rpc.grpc.connection import RECEIVE_BYTES
from orchy.rpc.grpc.framing import Code, frame
from orchy.rpc.grpc.limits import CONNECTION_TIMING as TIMING
from orchy.rpc.grpc.limits import STREAM_WINDOW_BYTES
from tests.rpc.handlers import headers_of, results, send_all

# Headers.


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"])
async def test_a_call_of_grpc_is_answered(connect, autojump_clock, kind):
    _, client = await connect()
    stream_id = client.request(pb.ActionPollRequest(), "/a", content_type=kind)
    await client.flush()
    assert await client.status(stream_id) == "0"


@pytest.mark.parametrize("kind", ["", "application/json", "application/grpc-web", "application/grpcx", "text/html"])
async def test_a_call_of_something_else_is_told_so_in_its_own_language(connect, autojump_clock, kind):
    _, client = await connect()
    stream_id = client.request(pb.ActionPollRequest(), "/a", content_type=kind)
    await client.flush()
    assert await client.status(stream_id) == str(int(Code.UNKNOWN))
    assert headers_of(client, stream_id)[0][":status"] == "415"


async def test_trailers_of_a_call_that_is_over_are_nothing(connect, autojump_clock):
    """The call was refused by its headers; the rest of it came with them."""
    connection, client = await connect()
    stream_id = client.open("/a", content_type="text/html")
    client.http.send_data(stream_id, b"x")
    client.http.send_headers(stream_id, [("x", "y")], end_stream=True)
    await client.flush()
    assert await client.status(stream_id) == str(int(Code.UNKNOWN))
    assert not connection._calls
    stream_id = client.request(pb.ActionPollRequest(), "/a")
    await client.flush()
    assert await client.status(stream_id) == "0"


async def test_a_request_may_end_with_trailers(connect, autojump_clock):
    _, client = await connect()
    stream_id = client.open("/a")
    client.http.send_data(stream_id, frame(b""))
    client.http.send_headers(stream_id, [("x", "y")], end_stream=True)
    await client.flush()
    assert await client.status(stream_id) == "0"


async def test_a_refusal_is_headers_only_with_what_is_taken(connect, autojump_clock):
    _, client = await connect()
    stream_id = client.request(pb.ActionPollRequest(), "/a", grpc_encoding="gzip")
    await client.flush()
    assert await client.status(stream_id) == str(int(Code.UNIMPLEMENTED))
    (head,) = headers_of(client, stream_id)
    assert head[":status"] == "200"
    assert head["content-type"] == "application/grpc"
    assert head["grpc-accept-encoding"] == "identity"
    assert "compressed" in head["grpc-message"]
    assert await client.until(h2.events.StreamEnded, stream_id)


async def test_an_answer_is_headers_a_message_and_trailers(connect, autojump_clock):
    _, client = await connect()
    stream_id = client.request(pb.ActionPollRequest(), "/a", grpc_encoding="identity")
    await client.flush()
    assert await client.status(stream_id) == "0"
    head, tail = headers_of(client, stream_id)
    assert head == {":status": "200", "content-type": "application/grpc"}
    assert tail == {"grpc-status": "0"}
    assert (await client.until(h2.events.DataReceived, stream_id)).data == frame(b"")


# Deadlines.


@pytest.mark.parametrize(
    ("text", "seconds"), [("2S", 2), ("1500m", 1.5), ("1M", 60), ("0n", 0), ("1u", 1e-6), ("00000003S", 3)]
)
async def test_a_deadline_cancels_the_handler(connect, handlers, autojump_clock, text, seconds):
    _, client = await connect()
    began = trio.current_time()
    stream_id = client.request(pb.ActionPollRequest(), "/wait", grpc_timeout=text)
    await client.flush()
    assert await client.status(stream_id, 100) == str(int(Code.DEADLINE_EXCEEDED))
    assert trio.current_time() - began == pytest.approx(seconds, abs=0.01)
    assert handlers.held == 0


async def test_a_deadline_begins_with_the_headers_of_the_call(connect, autojump_clock):
    _, client = await connect()
    began = trio.current_time()
    stream_id = client.open("/wait", grpc_timeout="10S")
    await client.flush()
    await trio.sleep(7)
    client.http.send_data(stream_id, frame(b""), end_stream=True)
    await client.flush()
    assert await client.status(stream_id) == str(int(Code.DEADLINE_EXCEEDED))
    assert trio.current_time() - began == pytest.approx(10, abs=0.01)


@pytest.mark.parametrize("text", ["", "S", "5", "-1S", "1.5S", "123456789S", "5s", "5S,5S"])
async def test_what_is_no_deadline_is_refused(connect, autojump_clock, text):
    _, client = await connect()
    stream_id = client.request(pb.ActionPollRequest(), "/wait", grpc_timeout=text)
    await client.flush()
    assert await client.status(stream_id) == str(int(Code.INVALID_ARGUMENT))


# Messages.


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\0\0\0\0", Code.INVALID_ARGUMENT),
        (b"\0\0\0\0\5abc", Code.INVALID_ARGUMENT),
        (frame(b"\xff\xff"), Code.INVALID_ARGUMENT),
        (b"\1" + frame(b"")[1:], Code.UNIMPLEMENTED),
        (b"\0" + (MESSAGE_BYTES_MAX + 1).to_bytes(4, "big"), Code.RESOURCE_EXHAUSTED),
    ],
    ids=["half a prefix", "too short", "no message", "compressed", "too long"],
)
@pytest.mark.parametrize("path", ["/a", "/take"])
async def test_a_body_that_may_not_be(connect, handlers, autojump_clock, body, code, path):
    handlers.may_read.set()
    quota = BufferQuota()
    connection, client = await connect(quota)
    stream_id = client.open(path)
    client.http.send_data(stream_id, body, end_stream=True)
    await client.flush()
    assert await client.status(stream_id) == str(int(code))
    await trio.testing.wait_all_tasks_blocked()
    assert quota.bytes_used == 0
    assert not connection._calls


@pytest.mark.parametrize("body", [b"", frame(b"") * 2], ids=["no message", "two messages"])
async def test_a_call_has_one_message_and_a_stream_any_number(connect, handlers, autojump_clock, body):
    handlers.may_read.set()
    _, client = await connect()
    for path, code in (("/a", Code.INVALID_ARGUMENT), ("/take", Code.OK)):
        stream_id = client.open(path)
        client.http.send_data(stream_id, body, end_stream=True)
        await client.flush()
        assert await client.status(stream_id) == str(int(code))
    assert len(handlers.read) == len(body) // 5


async def test_a_stream_that_nobody_reads_is_held_by_its_window_and_then_read_in_order(
    connect, handlers, autojump_clock
):
    """What is kept is bounded, whatever the client would like to send; nothing is lost."""
    quota = BufferQuota()
    _, client = await connect(quota)
    stream_id = client.open("/take")
    sent = results(600, 5_000)
    most = 0

    async def send() -> None:
        await send_all(client, stream_id, b"".join(sent))
        client.http.end_stream(stream_id)
        await client.flush()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        most = quota.bytes_used
        handlers.may_read.set()
    assert most > UNREAD_BYTES_MAX
    assert most <= UNREAD_BYTES_MAX + STREAM_WINDOW_BYTES + 2 * RECEIVE_BYTES
    assert await client.status(stream_id) == "0"
    assert handlers.read == [str(n) for n in range(600)]
    assert quota.bytes_used == 0


async def test_a_message_of_a_stream_may_be_larger_than_its_window(connect, handlers, autojump_clock):
    handlers.may_read.set()
    _, client = await connect()
    stream_id = client.open("/take")
    await send_all(client, stream_id, b"".join([*results(3, 100), *results(2, 4 * 2**20)]))
    client.http.end_stream(stream_id)
    await client.flush()
    assert await client.status(stream_id) == "0"
    assert handlers.read == ["0", "1", "2", "0", "1"]


async def test_many_small_messages_leave_others_their_turn(connect, handlers, autojump_clock):
    handlers.may_read.set()
    _, client = await connect()
    stream_id = client.open("/take")
    client.http.send_data(stream_id, frame(b"") * 3_000)
    await client.flush()
    seen = set()
    for _ in range(10_000):
        await trio.lowlevel.checkpoint()
        seen.add(len(handlers.read))
    assert len(handlers.read) == 3_000
    assert len(seen) > 50


async def test_a_message_of_a_stream_may_not_take_for_ever(connect, handlers, autojump_clock):
    """As a request may not; but a stream on which nothing comes is one that has nothing to say."""
    handlers.may_read.set()
    quota = BufferQuota()
    _, client = await connect(quota)
    quiet, slow = client.open("/take"), client.open("/take")
    for stream_id in (quiet, slow):
        client.http.send_data(stream_id, results(1, 100)[0])
    client.http.send_data(slow, results(1, 100)[0][:50])
    await client.flush()
    began = trio.current_time()
    assert await client.status(slow, 1_000) == str(int(Code.DEADLINE_EXCEEDED))
    assert (
        TIMING.request_seconds < trio.current_time() - began <= TIMING.request_seconds + 2 * TIMING.ping_after_seconds
    )
    assert quota.bytes_used == 0
    client.http.end_stream(quiet)
    await client.flush()
    assert await client.status(quiet) == "0"


async def test_a_message_that_waits_for_its_reader_may_take_as_long_as_he_does(connect, handlers, autojump_clock):
    _, client = await connect()
    stream_id = client.open("/take")
    sent = b"".join(results(300, 5_000))

    async def send() -> None:
        await send_all(client, stream_id, sent)
        client.http.end_stream(stream_id)
        await client.flush()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.sleep(10 * TIMING.request_seconds)
        handlers.may_read.set()
    assert await client.status(stream_id) == "0"
    assert len(handlers.read) == 300


async def test_a_message_that_can_not_be_read_ends_the_stream_after_those_before_it(connect, handlers, autojump_clock):
    handlers.may_read.set()
    _, client = await connect()
    stream_id = client.open("/take")
    client.http.send_data(stream_id, b"".join([*results(2, 1), frame(b"\xff\xff"), *results(1, 1)]))
    await client.flush()
    assert await client.status(stream_id) == str(int(Code.INVALID_ARGUMENT))
    assert handlers.read == ["0", "1"]


async def test_a_client_that_goes_in_the_middle_of_a_stream_leaves_nothing(connect, handlers, autojump_clock):
    quota = BufferQuota()
    connection, client = await connect(quota)
    stream_id = client.open("/take")
    await send_all(client, stream_id, b"".join(results(10, 5_000)) + b"\0\0")
    await trio.testing.wait_all_tasks_blocked()
    assert quota.bytes_used > 50_000
    await client.stream.aclose()
    await connection._drained.wait()
    assert quota.bytes_used == 0
