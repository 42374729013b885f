"""A stream on a socket: Trio's own checks of streams, and sending at once."""

from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import check_half_closeable_stream, wait_all_tasks_blocked

from orchy.runtime.sockets import PromptStream


async def pair() -> tuple[PromptStream, PromptStream]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        one = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        other = await listener.accept()
    for end in (one, other):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    return PromptStream(one), PromptStream(other)


async def clogged_pair() -> tuple[PromptStream, PromptStream]:
    """A pair whose buffers are full both ways."""
    ends = await pair()
    for end in ends:
        with trio.move_on_after(0.1) as filling:
            while True:
                await end.send_all(b"x" * 4_096)
                filling.deadline = trio.current_time() + 0.1  # the kernel may still be moving what was sent
        assert filling.cancelled_caught
    return ends


async def test_trios_checks_of_streams():
    await check_half_closeable_stream(pair, clogged_pair)


async def test_what_fits_into_the_buffer_is_sent_at_once():
    one, other = await pair()
    async with one, other:
        assert one.send_at_once(b"hello") == 5
        assert await other.receive_some() == b"hello"


async def test_sending_at_once_returns_how_much_fitted():
    one, other = await clogged_pair()
    async with one, other:
        assert one.send_at_once(b"more") == 0
        while not (sent := one.send_at_once(b"y" * 1_000_000)):
            await other.receive_some()
        assert sent < 1_000_000


async def test_nothing_is_sent_between_the_parts_of_a_message():
    one, other = await clogged_pair()
    async with one, other, trio.open_nursery() as nursery:
        nursery.start_soon(one.send_all, b"m" * 100_000)
        await wait_all_tasks_blocked()
        assert one.send_at_once(b"z") == 0
        with pytest.raises(trio.BusyResourceError):
            await one.send_all(b"z")
        got = b""
        while got.count(b"m") < 100_000:
            got += await other.receive_some()
        assert b"z" not in got


async def test_a_broken_connection_is_noticed_by_the_next_wait():
    one, other = await pair()
    await other.aclose()
    async with one:
        while one.send_at_once(b"x"):
            await trio.sleep(0.001)
        with pytest.raises(trio.BrokenResourceError):
            await one.send_all(b"x")


async def test_a_closed_stream_raises_closed_resource_error():
    one, other = await pair()
    await one.aclose()
    await one.aclose()
    assert one.send_at_once(b"x") == 0
    for use in (one.send_all(b"x"), one.receive_some(), one.wait_send_all_might_not_block(), one.send_eof()):
        with pytest.raises(trio.ClosedResourceError):
            await use
    await other.aclose()
