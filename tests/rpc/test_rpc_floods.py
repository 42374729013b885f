"""Frames in masses: each kind ends its connection before it costs much, and nothing is left of it. In memory."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from orchy.rpc.grpc.call import BufferQuota
from orchy.rpc.grpc.connection import RECEIVE_BYTES, Connection
from orchy.rpc.grpc.limits import CONNECTION_LIMITS, CONNECTION_TIMING
from orchy.rpc.grpc.write_buffer import SEND_SECONDS
from tests.rpc.wire import frames_of

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK, END_STREAM, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
PROTOCOL, FLOW_CONTROL, FRAME_SIZE, CALM = 1, 3, 6, 11
#: method POST, scheme http, path, authority, by the static table (RFC 7541, appendix A).
GOOD_HEADERS = b"\x83\x86\x04\x13/ActionService/Poll\x01\x01a"


def frame(kind, flags=0, stream=0, payload=b""):
    """RFC 9113, section 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


OPEN_STREAM = frame(HEADERS, END_HEADERS, 1, GOOD_HEADERS)


class Peer:
    """The other side of a connection: what it got, whether it is over."""

    def __init__(self, nursery):
        self.stream, theirs = trio.testing.memory_stream_pair()
        self.connection = Connection(theirs, {}, BufferQuota())
        self.got = bytearray()
        self.most_unsent = 0
        nursery.start_soon(self._serve)
        self.over = trio.Event()

    async def _serve(self):
        await self.connection.serve()
        self.over.set()

    async def read_all(self):
        try:
            while data := await self.stream.receive_some(65_536):
                self.got += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def send(self, data, times=1):
        """Sends until the other side has had enough."""
        try:
            for _ in range(times):
                await self.stream.send_all(data)
                await trio.lowlevel.checkpoint()
                self.most_unsent = max(self.most_unsent, len(self.connection._write_buffer))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


FLOODS = {
    "pings": (frame(PING, payload=b"12345678") * 100, 1_000, CALM),
    "settings": (frame(SETTINGS, payload=b"\0\4\0\0\x7f\xff") * 100, 1_000, CALM),
    "windows of the connection": (frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 1_000, 300, CALM),
    "windows of a stream": (
        OPEN_STREAM + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") * 30_000,
        1,
        CALM,
    ),
    "windows of a closed stream": (
        OPEN_STREAM + frame(RST_STREAM, 0, 1, b"\0\0\0\x08") + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") * 30_000,
        1,
        CALM,
    ),
    "headers on a stream that was reset here": (
        frame(HEADERS, END_HEADERS, 1, GOOD_HEADERS)
        + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\0")
        + frame(HEADERS, END_HEADERS, 1, GOOD_HEADERS) * 30_000,
        1,
        CALM,
    ),
    "data on a stream that was reset here": (
        frame(HEADERS, END_HEADERS, 1, GOOD_HEADERS)
        + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\0")
        + frame(DATA, 0, 1, b"x" * 20) * 30_000,
        1,
        CALM,
    ),
    "data without data": (OPEN_STREAM + frame(DATA, 0, 1) * 30_000, 1, CALM),
    "data that is all padding": (OPEN_STREAM + frame(DATA, PADDED, 1, b"\x13" + b"p" * 19) * 30_000, 1, CALM),
    "data byte by byte": (OPEN_STREAM + frame(DATA, 0, 1, b"\0") * 30_000, 1, CALM),
    "acknowledgements of pings": (frame(PING, ACK, 0, b"12345678") * 100, 1_000, CALM),
    "acknowledgements of settings": (frame(SETTINGS, ACK) * 100, 1_000, CALM),
    "settings of many settings": (frame(SETTINGS, payload=b"\0\3\0\0\x7f\xff" * 2_700), 1_000, CALM),
    "priorities": (frame(PRIORITY, 0, 1, b"\0\0\0\0\1") * 100, 1_000, CALM),
    "goodbyes": (frame(GOAWAY, 0, 0, b"\0" * 8) * 100, 1_000, CALM),
    "frames of no known kind": (frame(0xFA, payload=b"x") * 100, 1_000, CALM),
    "a header block that never ends": (frame(HEADERS, 0, 1, b"\x83") + frame(CONTINUATION, 0, 1, b"") * 5_000, 1, CALM),
    "headers beyond the limit": (
        frame(HEADERS, END_HEADERS, 1, GOOD_HEADERS + b"\x00\x01a\x7f\x81\x7e" + b"b" * 16_300),
        1,
        CALM,
    ),
    "a table that unpacks to much": (
        frame(HEADERS, END_HEADERS, 1, GOOD_HEADERS + b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4_000 + b"\xbe" * 900),
        1,
        CALM,
    ),
    "a frame beyond the limit": (b"\xff\xff\xff" + bytes([DATA, 0]) + b"\0\0\0\1" + b"x" * 70_000, 1, FRAME_SIZE),
    "a window of nothing": (frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"), 1, PROTOCOL),
    "a window beyond all bounds": (frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), 1, FLOW_CONTROL),
    "data on no stream": (frame(DATA, 0, 9, b"x"), 1, PROTOCOL),
    "an even stream": (frame(HEADERS, END_HEADERS, 2, GOOD_HEADERS), 1, PROTOCOL),
    "a promise": (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + GOOD_HEADERS), 1, PROTOCOL),
    "streams that are opened to be broken": (
        b"".join(
            frame(HEADERS, END_HEADERS, number, GOOD_HEADERS) + frame(WINDOW_UPDATE, 0, number, b"\0\0\0\0")
            for number in range(1, 10_001, 2)
        ),
        1,
        CALM,
    ),
    "streams that are opened to be reset": (
        b"".join(
            frame(HEADERS, END_HEADERS, number, GOOD_HEADERS) + frame(RST_STREAM, 0, number, b"\0\0\0\x08")
            for number in range(1, 10_001, 2)
        ),
        1,
        CALM,
    ),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_ends_its_connection(autojump_clock, flood):
    sent, times, code = FLOODS[flood]
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery)
        nursery.start_soon(peer.read_all)
        await peer.send(PREFACE + frame(SETTINGS))
        await peer.send(sent, times)
        with trio.fail_after(CONNECTION_TIMING.last_write_seconds + 1):
            await peer.over.wait()
        nursery.cancel_scope.cancel()
    kind, *_, payload = frames_of(bytes(peer.got))[-1]
    assert (kind, int.from_bytes(payload[4:8], "big")) == (GOAWAY, code)
    assert not peer.connection._calls
    assert len(peer.connection._write_buffer) < 100_000


async def test_pings_whose_answers_nobody_reads_stop_the_reading(autojump_clock):
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery)
        await peer.send(PREFACE + frame(SETTINGS))
        nursery.start_soon(peer.send, frame(PING, payload=b"12345678") * 1_000, 1_000)
        with trio.fail_after(SEND_SECONDS + CONNECTION_TIMING.last_write_seconds + 5):
            await peer.over.wait()
        nursery.cancel_scope.cancel()
    assert peer.most_unsent < CONNECTION_LIMITS.unsent_bytes_max + 2 * RECEIVE_BYTES


@pytest.mark.parametrize("seed", range(40))
async def test_random_frames_after_a_good_beginning(autojump_clock, seed):
    """Frames of all kinds, well-formed or not; it goes on or it ends, and keeps nothing."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery)
        nursery.start_soon(peer.read_all)
        await peer.send(PREFACE + frame(SETTINGS))
        for _ in range(200):
            payload = chance.choice([GOOD_HEADERS, b"", chance.randbytes(chance.randrange(20)), b"\0\0\0\0\5\x0a\3act"])
            kind, flags = (
                chance.choice([*range(10), chance.randrange(256)]),
                chance.choice([0, 1, 4, 5, chance.randrange(256)]),
            )
            await peer.send(frame(kind, flags, chance.choice([0, 1, 3, 5, chance.getrandbits(31)]), payload))
        await peer.stream.aclose()
        with trio.fail_after(CONNECTION_TIMING.last_write_seconds + 1):
            await peer.over.wait()
        nursery.cancel_scope.cancel()
    assert not peer.connection._calls
    assert peer.connection._quota.bytes_used == 0
