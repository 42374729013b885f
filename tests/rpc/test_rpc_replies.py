"""What a call is answered, how fast, and how its handler ends. In memory, on a mock clock."""

from __future__ import annotations

from typing import Any

import h2.events
import pytest
import trio
import trio.testing
from h2.settings import SettingCodes

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.framing import Code, Status, decode_message
from orchy.rpc.grpc.limits import ConnectionLimits
from orchy.rpc.grpc.write_buffer import SEND_BYTES, SEND_SECONDS
from tests.rpc import wire
from tests.rpc.handlers import Handlers, headers_of, large_reply, results


async def test_an_answer_that_nobody_takes_is_given_up(connect, handlers, autojump_clock):
    handlers.reply = large_reply(200_000)
    connection, client = await connect()
    began = trio.current_time()
    stream_id = client.request(pb.ActionPollRequest(), "/a")
    await client.flush()
    assert await client.status(stream_id, 1_000) == str(int(Code.UNAVAILABLE))
    assert trio.current_time() - began == pytest.approx(SEND_SECONDS, abs=1)
    assert not connection._calls


async def test_a_stream_of_answers_waits_as_long_as_its_reader_takes(connect, handlers, autojump_clock):
    handlers.reply = large_reply(50_000)
    _, client = await connect()
    stream_id = client.request(pb.ActionPollRequest(), "/tell")
    await client.flush()
    received_bytes = 0
    for _ in range(10):
        with trio.move_on_after(3 * SEND_SECONDS):
            while await client.receive():
                pass
        data = [event for event in client.events if isinstance(event, h2.events.DataReceived)]
        received_bytes = sum(len(event.data) for event in data)
        client.http.acknowledge_received_data(40_000, stream_id)
        await client.flush()
    assert received_bytes >= 9 * 40_000


async def test_what_waits_to_be_written_is_bounded_also_when_the_windows_are_not(connect, handlers, autojump_clock):
    handlers.reply = large_reply(3_000_000)
    connection, client = await connect(limits=ConnectionLimits(unsent_bytes_max=200_000))
    client.http.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
    client.http.increment_flow_control_window(2**30)
    await client.flush()
    connection._stream.send_stream.send_all_hook = trio.sleep_forever
    for _ in range(3):
        client.request(pb.ActionPollRequest(), "/a")
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert 100_000 < len(connection._write_buffer) + len(connection._http._out) <= 200_000 + 4 * SEND_BYTES


async def test_windows_that_open_together_wake_the_calls_once(connect, handlers, autojump_clock, monkeypatch):
    """Else a few bytes of a client would be as much work as it has calls."""
    handlers.reply = large_reply(200_000)
    connection, client = await connect()
    for _ in range(20):
        client.request(pb.ActionPollRequest(), "/a")
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    looks = 0
    real = connection._wake_senders

    def count(calls: Any) -> None:
        nonlocal looks
        looks += 1
        real(calls)

    monkeypatch.setattr(connection, "_wake_senders", count)
    for _ in range(500):
        client.http.increment_flow_control_window(1)
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert looks == 1


@pytest.mark.parametrize("said", [wire.window_update(1, 0), wire.data(1, b"x"), wire.headers(1, end=True)])
async def test_a_client_that_breaks_its_stream_ends_the_handler(connect, handlers, autojump_clock, said):
    """It makes the server reset it, and is not to have more handlers than streams by that (CVE-2025-8671)."""
    connection, client = await connect()
    stream_id = client.request(pb.ActionPollRequest(), "/wait")
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert (stream_id, handlers.held) == (1, 1)
    await client.stream.send_all(said)
    assert await client.until(h2.events.StreamReset, stream_id)
    await trio.testing.wait_all_tasks_blocked()
    assert handlers.held == 0
    assert not connection._calls


async def test_handlers_that_take_long_to_end_count_as_calls(connect, handlers, autojump_clock):
    """A client can't have more of them by resetting their streams (CVE-2023-44487, CVE-2025-8671)."""
    handlers.stubborn = trio.Event()
    connection, client = await connect(limits=ConnectionLimits(calls_max=10))
    for _ in range(30):
        stream_id = client.request(pb.ActionPollRequest(), "/wait")
        await client.flush()
        await trio.testing.wait_all_tasks_blocked()
        if handlers.held == 10 and (connection._calls.keys() and stream_id not in connection._calls):
            break
        client.http.reset_stream(stream_id)
        await client.flush()
        await trio.testing.wait_all_tasks_blocked()
    assert handlers.held == 10
    assert (await client.until(h2.events.StreamReset, stream_id)).error_code == 7
    handlers.stubborn.set()
    await trio.testing.wait_all_tasks_blocked()
    stream_id = client.request(pb.ActionPollRequest(), "/a")
    await client.flush()
    assert await client.status(stream_id) == "0"


@pytest.mark.parametrize("message", [" x ", "  ", "ends with a space ", "", "50 %", "a\nb\tc\0", "\ud800", "ü" * 2_000])
async def test_any_message_of_a_status_can_be_sent(connect, handlers, autojump_clock, message, monkeypatch):
    async def refuse(input: Any, request: Any = None) -> Any:
        raise Status(Code.NOT_FOUND, message)

    monkeypatch.setattr(Handlers, "answer", lambda self, input, request=None: refuse(input))
    _, client = await connect()
    stream_id = client.request(pb.ActionPollRequest(), "/a")
    await client.flush()
    assert await client.status(stream_id) == str(int(Code.NOT_FOUND))
    text = headers_of(client, stream_id)[0]["grpc-message"]
    assert text == text.strip()
    assert text.isascii()
    assert decode_message(text) == message[:1000].replace("\ud800", "?")


async def test_a_drain_lets_a_stream_finish_what_came_and_takes_no_more_of_it(connect, handlers, autojump_clock):
    connection, client = await connect()
    stream_id = client.open("/take")
    client.http.send_data(stream_id, b"".join(results(3, 10)))
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    connection.drain()
    client.http.send_data(stream_id, results(1, 10)[0])
    await client.flush()
    handlers.may_read.set()
    assert await client.status(stream_id) == "0"
    assert handlers.read == ["0", "1", "2"]
    await connection.wait_drained()
