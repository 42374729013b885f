"""No client can make the server wait for ever or keep more than it may. In memory, on a mock clock."""

from __future__ import annotations

import h2.connection
import h2.events
import pytest
import trio
import trio.lowlevel
from h2.settings import SettingCodes, Settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.call import MESSAGE_BYTES_MAX, BufferQuota
from orchy.rpc.grpc.connection import RECEIVE_BYTES, Connection
from orchy.rpc.grpc.framing import Code
from orchy.rpc.grpc.limits import CONNECTION_TIMING as TIMING
from orchy.rpc.grpc.limits import STREAMS_MAX, ConnectionLimits
from orchy.rpc.grpc.write_buffer import SEND_SECONDS
from orchy.rpc.http2.limits import FloodLimits

POLL = pb.ActionPollRequest(actionType="act", batchSize=10, waitMillis=60_000)


async def test_a_client_that_says_nothing_is_let_go(in_memory, autojump_clock):
    _, client = in_memory()
    began = trio.current_time()
    while await client.stream.receive_some(1000):
        pass
    assert trio.current_time() - began == pytest.approx(TIMING.handshake_seconds, abs=1)


async def test_a_client_that_never_gets_through_its_greeting_is_let_go(in_memory, autojump_clock):
    _, client = in_memory()
    client.http.initiate_connection()
    initial_frames = client.http.data_to_send()
    began = trio.current_time()
    with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
        for byte in initial_frames:
            await client.stream.send_all(bytes([byte]))
            await trio.sleep(1)
    assert trio.current_time() - began <= TIMING.handshake_seconds + 2


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00" * 50, b"\0" * 100])
async def test_garbage_is_let_go_at_once(in_memory, autojump_clock, garbage):
    _, client = in_memory()
    began = trio.current_time()
    await client.stream.send_all(garbage)
    while await client.stream.receive_some(1000):
        pass
    assert trio.current_time() - began <= TIMING.last_write_seconds


async def test_a_client_that_is_gone_without_a_word_is_noticed_by_a_ping(in_memory, behind, autojump_clock):
    behind.hold = True
    _, client = in_memory()
    await client.greet()
    client.request(POLL)
    await client.flush()
    began = trio.current_time()
    while await client.stream.receive_some(1000):  # takes what comes and answers nothing
        pass
    assert trio.current_time() - began == pytest.approx(TIMING.ping_after_seconds + TIMING.ping_answer_seconds, abs=1)
    assert (behind.held, behind.cancelled) == (0, 1)


async def test_a_quiet_client_that_answers_pings_stays(in_memory, autojump_clock):
    _, client = in_memory()
    await client.greet()
    with trio.move_on_after(10 * TIMING.ping_after_seconds):
        await client.end()
        pytest.fail("the connection was ended")
    stream_id = client.request(POLL)
    await client.flush()
    assert await client.status(stream_id) == str(int(Code.OK))


async def test_a_call_that_is_reset_is_cancelled_and_the_others_run_on(in_memory, behind, autojump_clock):
    behind.hold = True
    _, client = in_memory()
    await client.greet()
    first, second = client.request(POLL), client.request(POLL)
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert behind.held == 2
    client.http.reset_stream(first)
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert (behind.held, behind.cancelled) == (1, 1)
    behind.let_go.set()
    assert await client.status(second) == "0"


async def test_streams_that_are_opened_to_be_reset_end_the_connection(in_memory, behind, autojump_clock):
    behind.hold = True
    _, client = in_memory()
    await client.greet()
    ended = trio.Event()

    async def read() -> None:
        while data := await client.stream.receive_some(65536):
            client.events += client.http.receive_data(data)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        with pytest.raises((trio.BrokenResourceError, h2.exceptions.ProtocolError)):
            for _ in range(FloodLimits().resets_max + 100):
                client.http.reset_stream(client.request(POLL))
                await client.flush()
                await trio.lowlevel.checkpoint()
        await ended.wait()
    assert behind.held == 0
    assert any(isinstance(event, h2.events.ConnectionTerminated) for event in client.events)


async def test_a_client_whose_every_poll_runs_into_its_deadline_may_go_on(in_memory, behind, autojump_clock):
    behind.hold = True
    _, client = in_memory()
    await client.greet()
    for _ in range(FloodLimits().resets_max + 500):
        client.http.reset_stream(client.request(POLL))
        await client.flush()
        await trio.sleep(0.1)
    behind.hold = False
    stream_id = client.request(POLL)
    await client.flush()
    assert await client.status(stream_id) == "0"


async def test_a_message_is_refused_as_soon_as_it_says_how_long_it_is(in_memory, autojump_clock):
    _, client = in_memory()
    await client.greet()
    stream_id = client.open()
    client.http.send_data(stream_id, b"\0" + (MESSAGE_BYTES_MAX + 1).to_bytes(4, "big"))
    await client.flush()
    assert await client.status(stream_id) == str(int(Code.RESOURCE_EXHAUSTED))


async def test_a_request_that_never_ends_is_refused_and_its_bytes_forgotten(in_memory, autojump_clock):
    quota = BufferQuota()
    _, client = in_memory(quota)
    await client.greet()
    stream_id = client.open()
    client.http.send_data(stream_id, b"\0" + (1000).to_bytes(4, "big") + b"x" * 500)
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert quota.bytes_used == 505
    assert await client.status(stream_id, 1000) == str(int(Code.DEADLINE_EXCEEDED))
    assert trio.current_time() <= TIMING.request_seconds + 2 * TIMING.ping_after_seconds
    assert quota.bytes_used == 0


async def test_requests_under_way_share_a_quota(in_memory, autojump_clock):
    quota = BufferQuota(bytes_max=10_000)
    _, first = in_memory(quota)
    _, second = in_memory(quota)
    for client in (first, second):
        await client.greet()
    first.http.send_data(first.open(), b"\0" + (20_000).to_bytes(4, "big") + b"x" * 9_000)
    await first.flush()
    await trio.testing.wait_all_tasks_blocked()
    stream_id = second.request(pb.ActionResult(flowId="f", error="x" * 5_000), "/ActionService/Push")
    await second.flush()
    assert await second.status(stream_id) == str(int(Code.UNAVAILABLE))
    await first.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert quota.bytes_used == 0
    stream_id = second.request(pb.ActionResult(flowId="f", error="x" * 5_000), "/ActionService/Push")
    await second.flush()
    assert await second.status(stream_id) == "0"
    assert quota.bytes_used == 0


async def test_a_client_that_takes_its_share_leaves_the_others_theirs(in_memory, autojump_clock):
    quota = BufferQuota(bytes_max=20_000)
    limits = ConnectionLimits(requests_bytes_max=10_000)
    _, greedy = in_memory(quota, limits)
    _, modest = in_memory(quota, limits)
    for client in (greedy, modest):
        await client.greet()
    streams = []
    for _ in range(5):
        streams.append(greedy.open())
        greedy.http.send_data(streams[-1], b"\0" + (9_000).to_bytes(4, "big") + b"x" * 6_000)
    await greedy.flush()
    assert await greedy.status(streams[-1]) == str(int(Code.UNAVAILABLE))
    assert quota.bytes_used <= 10_000
    stream_id = modest.request(pb.ActionResult(flowId="f", error="x" * 5_000), "/ActionService/Push")
    await modest.flush()
    assert await modest.status(stream_id) == "0"


async def test_a_stream_more_than_allowed_is_refused_and_the_others_go_on(in_memory, behind, autojump_clock):
    behind.hold = True
    _, client = in_memory()
    await client.greet()
    await client.until(h2.events.RemoteSettingsChanged)
    client.http.remote_settings = Settings(client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: 10**6})
    streams = [client.request(POLL) for _ in range(STREAMS_MAX + 1)]
    await client.flush()
    refused = await client.until(h2.events.StreamReset)
    assert (refused.stream_id, refused.error_code) == (streams[-1], 7)
    assert behind.held == STREAMS_MAX
    behind.let_go.set()
    assert await client.status(streams[-2]) == "0"


async def test_answers_that_nobody_reads_stop_the_reading_and_then_the_connection(autojump_clock):
    """A client that sends for ever and reads nothing: what waits for it is bounded."""
    limits = ConnectionLimits(unsent_bytes_max=100_000)
    sent, held = trio.testing.memory_stream_one_way_pair()

    class Blocked(trio.abc.Stream):
        """Takes nothing that is written."""

        async def send_all(self, data: bytes) -> None:
            await trio.sleep_forever()

        async def wait_send_all_might_not_block(self) -> None:
            await trio.sleep_forever()

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            return await held.receive_some(max_bytes)

        async def aclose(self) -> None:
            await held.aclose()

    connection = Connection(Blocked(), {}, BufferQuota(), limits)
    http = h2.connection.H2Connection()
    http.initiate_connection()
    ended = trio.Event()

    async def serve() -> None:
        await connection.serve()
        ended.set()

    async def send() -> None:
        await sent.send_all(http.data_to_send())
        for _ in range(1000):
            http.ping(b"12345678")
        pings = http.data_to_send()
        while not ended.is_set():
            await sent.send_all(pings)
            await trio.sleep(1)
            assert len(connection._write_buffer) <= limits.unsent_bytes_max + RECEIVE_BYTES

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        nursery.start_soon(send)
    assert trio.current_time() <= SEND_SECONDS + 1


async def test_a_large_answer_goes_out_as_fast_as_the_client_opens_its_window(in_memory, behind, autojump_clock):
    action = pb.Action(flowId="f")
    action.data["x"].string_value = "x" * 300_000
    behind.bodies = [action.SerializeToString()]
    _, client = in_memory()
    await client.greet()
    stream_id = client.request(POLL)
    await client.flush()
    received_bytes = 0
    while received_bytes < 300_000:
        event = await client.until(h2.events.DataReceived, stream_id)
        received_bytes += len(event.data)
        client.http.acknowledge_received_data(event.flow_controlled_length, stream_id)
        await client.flush()
    assert await client.status(stream_id) == "0"


async def test_a_client_that_resets_while_it_does_not_take_its_answer_leaves_nothing(in_memory, behind, autojump_clock):
    action = pb.Action(flowId="f")
    action.data["x"].string_value = "x" * 300_000
    behind.bodies = [action.SerializeToString()]
    connection, client = in_memory()
    await client.greet()
    stream_id = client.request(POLL)
    await client.flush()
    await client.until(h2.events.DataReceived, stream_id)
    await trio.testing.wait_all_tasks_blocked()
    client.http.reset_stream(stream_id)
    stream_id = client.request(POLL)
    await client.flush()
    assert await client.status(stream_id) == "0"
    await trio.testing.wait_all_tasks_blocked()
    assert not connection._calls


async def test_after_a_goodbye_calls_under_way_are_answered_and_new_ones_are_not(in_memory, behind, autojump_clock):
    behind.hold = True
    connection, client = in_memory()
    await client.greet()
    first = client.request(POLL)
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    connection.drain()
    quiet = trio.Event()

    async def wait_quiet() -> None:
        await connection.wait_drained()
        quiet.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_quiet)
        second = client.request(POLL)
        await client.flush()
        assert await client.status(second) == str(int(Code.UNAVAILABLE))
        assert not quiet.is_set()
        behind.let_go.set()
        assert await client.status(first) == "0"
        await quiet.wait()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
async def test_whatever_a_client_sends_its_connection_ends_and_raises_nothing(data):
    """Bytes changed, dropped or added in a good conversation; the handlers of a hanging connection are cancelled."""
    http = h2.connection.H2Connection()
    http.initiate_connection()
    for number in range(3):
        stream_id = 2 * number + 1
        headers = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/ActionService/Poll")]
        http.send_headers(stream_id, [*headers, ("te", "trailers"), ("content-type", "application/grpc")])
        http.send_data(stream_id, b"\0\0\0\0\5\x0a\3act", end_stream=True)
    good = bytearray(http.data_to_send())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(good) - 1))
        good[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    ours, theirs = trio.testing.memory_stream_pair()
    connection = Connection(theirs, {}, BufferQuota())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.serve)
        await ours.send_all(bytes(good))
        await ours.send_eof()
        with trio.fail_after(30):
            await connection._drained.wait()
    assert not connection._calls
