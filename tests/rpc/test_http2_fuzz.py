"""Whatever a peer sends, in whatever pieces: the machine raises ProtocolError or nothing, and keeps a bounded amount.

The same examples each time. FUZZ_EXAMPLES=3000 in the environment takes more of them, FUZZ_SEED=7 others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.rpc.http2 import headers as header_limits
from orchy.rpc.http2 import reader
from orchy.rpc.http2.events import DataReceived, Event, Role, StreamReset
from orchy.rpc.http2.frames import HEAD, ErrorCode, ProtocolError
from tests.rpc import wire
from tests.rpc.wire import ACK, HEADERS, PREFACE, REQUEST, RESPONSE, SETTINGS, Peer, block, frame, settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
ROLES = [Role.SERVER, Role.CLIENT]


def fuzz(*strategies: Any) -> Callable[[Any], Any]:
    """`given`, with the settings of this file."""

    def decorate(test: Any) -> Any:
        test = given(*strategies)(test)
        test = hypothesis.settings(max_examples=EXAMPLES, deadline=None, derandomize=not SEED, database=None)(test)
        return hypothesis.seed(SEED)(test) if SEED else test

    return decorate


def greeting_of(role: Role) -> bytes:
    return (PREFACE if role is Role.SERVER else b"") + settings() + frame(SETTINGS, ACK)


def opened(role: Role) -> Peer:
    """A machine that was greeted, with three streams that it may send on."""
    peer = Peer(role)
    peer.say(greeting_of(role))
    for stream in (1, 3, 5):
        if role is Role.CLIENT:
            peer.http.open_stream(block(REQUEST))
        else:
            peer.say(wire.headers(stream))
    peer.sent()
    return peer


# What there is to send: mostly near to what is right.

numbers = st.sampled_from([0, 1, 2, 3, 5, 7, 9, 255, 2**31 - 1])
sizes = st.sampled_from([0, 1, 2**14, 65_535, 2**31 - 2**17, 2**31 - 1, 2**31])
blocks = st.one_of(
    st.sampled_from([block(REQUEST), block(RESPONSE), block({"grpc-status": "0"}), b"\xbe", b"\x20", b""]),
    st.builds(
        lambda name, value: block({**REQUEST, name: value}),
        st.sampled_from(["content-length", "te", "connection", "x", "X", ":path"]),
        st.sampled_from(["0", "3", "trailers", "", " "]),
    ),
    st.sampled_from([block(REQUEST) + b"\x40\x01x\x01a", block(RESPONSE) + b"\x40\x01x\x01a"]),
    st.binary(max_size=40),
)
payloads = st.one_of(
    blocks,
    st.binary(max_size=20),
    sizes.map(lambda size: size.to_bytes(4, "big")),
    st.builds(lambda name, value: name.to_bytes(2, "big") + value.to_bytes(4, "big"), st.integers(0, 7), sizes),
    st.sampled_from([b"12345678", bytes(8), b"\0\0\0\1\x10", b"x" * 10_000, b"\xff" * 16_384]),
)
flags = st.one_of(st.sampled_from([0, 1, 4, 5, 8, 0x2D]), st.integers(0, 255))
any_frames = st.builds(frame, st.one_of(st.integers(0, 10), st.integers(0, 255)), flags, numbers, payloads)
good_frames = st.one_of(
    st.builds(lambda n, packed, end: frame(HEADERS, 4 | end, n, packed), numbers, blocks, st.booleans()),
    st.builds(lambda n, size, end: wire.data(n, b"x" * size, end=end), numbers, st.integers(0, 16_384), st.booleans()),
    st.builds(wire.window_update, numbers, st.integers(1, 2**20)),
    st.builds(wire.reset, numbers),
    st.builds(lambda name, value: settings((name, value)), st.integers(1, 7), sizes),
    st.builds(frame, st.just(wire.PING), st.sampled_from([0, 1]), st.just(0), st.just(b"12345678")),
    st.builds(wire.goaway, numbers),
)
conversations = st.lists(st.one_of(good_frames, good_frames, any_frames), max_size=30).map(b"".join)


def feed(peer: Peer, pieces: list[bytes]) -> tuple[list[Event], int | None]:
    """What some bytes mean, and the code with which they end the connection."""
    events: list[Event] = []
    for piece in pieces:
        try:
            events += peer.http.receive(piece)
        except ProtocolError as error:
            return events, int(error.code)
        check_bounds(peer)
    return events, None


def check_bounds(peer: Peer) -> None:
    """What is kept of a peer has a limit; windows and counts are what they can be."""
    http = peer.http
    assert len(http._frames._buffer) < HEAD.size + 2**14 + HEAD.size
    assert http._frames._block is None or len(http._frames._block[2]) <= reader.BLOCK_BYTES_MAX
    assert len(http._locally_reset._ids) <= wire.LIMITS.reset_streams_remembered
    assert len(http._headers._cache) <= header_limits.CACHED_BLOCKS_MAX
    assert 0 <= http._receive_window <= wire.WINDOW_BYTES
    assert http._send_window < 2**31
    for stream in http._streams.values():
        assert 0 <= stream.receive_window <= wire.STREAM_WINDOW_BYTES
        assert -(2**31) < stream.send_window < 2**31
        assert not (stream.remote_ended and stream.local_ended)
    if http._is_server:
        assert len(http._streams) == http._peer_streams <= wire.STREAMS_MAX


def check_events(events: list[Event]) -> None:
    """Nothing comes on a stream after its end."""
    over: set[int] = set()
    for event in events:
        stream = getattr(event, "stream_id", 0)
        if isinstance(event, StreamReset):
            over.add(stream)
        elif isinstance(event, DataReceived) or hasattr(event, "headers"):
            assert stream not in over
            if event.ended:
                over.add(stream)


@pytest.mark.parametrize("role", ROLES)
@fuzz(st.binary(max_size=200), st.booleans())
def test_noise_is_a_protocol_error_or_nothing(role, noise, greeted):
    feed(opened(role) if greeted else Peer(role), [noise])


@pytest.mark.parametrize("role", ROLES)
@fuzz(conversations)
def test_frames_in_any_order_are_a_protocol_error_or_mean_something(role, conversation):
    peer = opened(role)
    events, _ = feed(peer, [conversation])
    check_events(events)
    wire.frames_of(peer.http.data_to_send())


@pytest.mark.parametrize("role", ROLES)
@fuzz(conversations, st.lists(st.integers(0, 2**20), max_size=20))
def test_bytes_mean_the_same_in_whatever_pieces_they_come(role, conversation, cuts):
    """What comes before an error may be told, or not any more; else events and answers are the same."""
    said = greeting_of(role) + conversation
    whole, pieces = Peer(role), Peer(role)
    places = sorted({0, len(said), *(cut % (len(said) + 1) for cut in cuts)})
    events, error = feed(whole, [said])
    cut_events, cut_error = feed(pieces, [said[a:b] for a, b in pairwise(places)])
    assert cut_error == error
    if error is None:
        assert cut_events == events
        assert pieces.http.data_to_send() == whole.http.data_to_send()


@pytest.mark.parametrize("role", ROLES)
@fuzz(conversations)
def test_bytes_mean_the_same_one_by_one(role, conversation):
    said = conversation[:400]
    whole, pieces = opened(role), opened(role)
    events, error = feed(whole, [said])
    cut_events, cut_error = feed(pieces, [said[n : n + 1] for n in range(len(said))])
    assert cut_error == error
    assert cut_events[: len(events)] == events


@pytest.mark.parametrize("role", ROLES)
@fuzz(st.lists(good_frames, min_size=1, max_size=20).map(b"".join), st.data())
def test_good_conversations_that_were_changed_on_the_way(role, conversation, data):
    said = bytearray(greeting_of(role) + conversation)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(said)))
        said[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    events, _ = feed(Peer(role), [bytes(said)])
    check_events(events)


@pytest.mark.parametrize("role", ROLES)
@fuzz(st.lists(st.tuples(any_frames | good_frames, st.integers(0, 7), numbers, st.integers(0, 10_000)), max_size=30))
def test_whatever_the_owner_does_meanwhile_is_well(role, steps):
    """Answers, resets, held windows and goodbyes between the frames, on streams that are there or not."""
    peer = opened(role)
    for said, action, stream, size in steps:
        _, error = feed(peer, [said])
        if error is not None:
            return
        http = peer.http
        match action:
            case 0:
                http.send_headers(stream, block(RESPONSE))
            case 1:
                http.send_headers(stream, block({"grpc-status": "0"}), end_stream=True)
            case 2:
                http.send_data(stream, b"y" * max(0, min(size, http.sendable_bytes(stream))), end_stream=bool(size % 2))
            case 3:
                http.reset(stream, ErrorCode.CANCEL)
            case 4:
                http.hold_window(stream)
            case 5:
                http.release_window(stream)
            case 6:
                http.ping()
            case _:
                http.send_goaway()
        check_bounds(peer)
    wire.frames_of(peer.http.data_to_send())


@fuzz(st.one_of(st.binary(max_size=3_000), st.lists(blocks, max_size=50).map(b"".join)))
def test_header_blocks_are_read_or_refused(packed):
    feed(opened(Role.SERVER), [frame(HEADERS, 4, 7, packed)])
