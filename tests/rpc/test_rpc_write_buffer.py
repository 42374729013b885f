"""What a connection has to send: at once where it can, together where it pays, in its order always."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager

import trio
import trio.testing

from orchy.rpc.grpc.write_buffer import CALLS_AT_ONCE, SEND_SECONDS, WriteBuffer
from orchy.runtime.sockets import PromptStream


@asynccontextmanager
async def write_buffer():
    """A write buffer whose task is running, and the peer's end."""
    ends = trio.socket.socketpair()
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    ours, theirs = (PromptStream(trio.SocketStream(end)) for end in ends)
    async with ours, theirs, trio.open_nursery() as nursery:
        box = WriteBuffer(ours)
        ended = trio.Event()

        async def run():
            await box.run()
            ended.set()

        nursery.start_soon(run)
        yield box, theirs, ended
        nursery.cancel_scope.cancel()


async def test_with_few_calls_it_is_gone_before_anybody_else_runs():
    async with write_buffer() as (box, theirs, _):
        box.write(b"hello", calls=CALLS_AT_ONCE)
        assert len(box) == 0
        assert await theirs.receive_some() == b"hello"


async def test_with_many_what_is_said_in_one_turn_is_one_write():
    async with write_buffer() as (box, theirs, _):
        for _ in range(3):
            box.write(b"hello", calls=CALLS_AT_ONCE + 1)
        assert len(box) == 15
        assert await theirs.receive_some() == b"hello" * 3


async def test_what_does_not_fit_keeps_its_place():
    async with write_buffer() as (box, theirs, _):
        parts = [b"%06d" % number * 1_000 for number in range(100)]
        for number, part in enumerate(parts):
            box.write(part, calls=1 if number % 2 else 100)
        assert len(box) > 0
        got = b""
        while len(got) < 600_000:
            got += await theirs.receive_some()
        assert got == b"".join(parts)


async def test_whoever_waits_hears_of_progress():
    async with write_buffer() as (box, theirs, _):
        box.write(b"x" * 1_000_000, calls=1)
        before = len(box)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(box.wait_for_progress)
            while len(box) == before:
                await theirs.receive_some()


async def test_a_peer_that_has_gone_ends_it():
    async with write_buffer() as (box, theirs, ended):
        await theirs.aclose()
        with trio.fail_after(5):
            while not ended.is_set():
                box.write(b"x", calls=100)
                await trio.sleep(0.001)


async def test_a_peer_that_takes_nothing_ends_it(mock_clock):
    async with write_buffer() as (box, _, ended):
        box.write(b"x" * 10_000_000, calls=1)
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(SEND_SECONDS - 1)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not ended.is_set()
        mock_clock.jump(2)
        await ended.wait()
