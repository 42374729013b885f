"""What each frame may be (RFC 9113, sections 3, 4 and 6), told to a server's machine: the cases of h2spec."""

from __future__ import annotations

from itertools import pairwise

import pytest

from orchy.rpc.http2 import reader
from orchy.rpc.http2.events import DataReceived, HeadersReceived, SettingsReceived, StreamReset
from orchy.rpc.http2.frames import ProtocolError
from orchy.rpc.http2.limits import FloodLimits
from tests.rpc import wire
from tests.rpc.wire import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Peer,
    block,
    data,
    frame,
    goaway,
    headers,
    limited,
    reset,
    server,
    settings,
    window_update,
)

CONNECTION = "connection"
STREAM = "stream"
BLOCK = block(REQUEST)


# 3.4 The beginning.


def test_3_4_a_server_begins_with_its_settings():
    (first, *_) = wire.frames_of(Peer().initial_frames)
    assert first[:3] == (SETTINGS, 0, 0)


def test_3_4_settings_are_acknowledged_once_each_in_their_order():
    peer = Peer()
    assert peer.say(PREFACE, settings(), settings((wire.INITIAL_WINDOW_SIZE, 1))) == [SettingsReceived()] * 2
    assert peer.sent() == [(SETTINGS, ACK, 0, b"")] * 2


@pytest.mark.parametrize("cut", range(len(PREFACE)))
def test_3_4_the_preface_may_come_in_pieces(cut):
    peer = Peer()
    assert peer.say(PREFACE[:cut]) == []
    assert peer.say(PREFACE[cut:], settings()) == [SettingsReceived()]


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r",
        settings(),
        PREFACE + frame(PING, payload=b"12345678"),
        PREFACE + headers(),
        PREFACE + frame(SETTINGS, ACK),
        PREFACE + frame(99) + settings(),
    ],
    ids=["http/1", "a wrong end", "no preface", "ping first", "headers first", "an answer first", "unknown first"],
)
def test_3_4_whoever_begins_otherwise_is_let_go(beginning):
    assert Peer().fate(beginning) == (CONNECTION, PROTOCOL_ERROR)


def test_3_4_nothing_is_said_to_whoever_speaks_no_http2_but_goodbye():
    peer = Peer()
    with pytest.raises(ProtocolError, match="not HTTP/2"):
        peer.say(b"\x16\x03\x01")
    assert [kind for kind, *_ in peer.sent()] == [GOAWAY]


# 4.1, 5.5 Frames that nobody knows.


@pytest.mark.parametrize("kind", [10, 0x16, 0xFF])
@pytest.mark.parametrize("stream", [0, 1, 2, 2**31 - 1])
def test_4_1_unknown_frames_are_ignored(kind, stream):
    assert server().fate(frame(kind, 0xFF, stream, b"whatever")) is None


def test_4_1_unknown_flags_and_the_reserved_bit_are_ignored():
    peer = server()
    sent = bytearray(headers(1, end=True))
    sent[4] |= 0x50
    sent[5] |= 0x80
    assert [type(event) for event in peer.say(bytes(sent))] == [HeadersReceived]
    assert peer.fate(frame(PING, 0xFE, 0x80000000, b"12345678")) is None


def test_5_5_an_unknown_frame_inside_a_header_block_ends_the_connection():
    assert server().fate(frame(HEADERS, 0, 1, BLOCK), frame(0x16)) == (CONNECTION, PROTOCOL_ERROR)


# 4.2 Sizes.


def test_4_2_a_frame_may_have_2_to_the_14_bytes_and_not_one_more():
    peer = server()
    peer.say(headers(1))
    assert peer.say(data(1, b"x" * 16_384))[0].data == b"x" * 16_384
    assert peer.fate(data(1, b"x" * 16_385)) == (CONNECTION, FRAME_SIZE_ERROR)


@pytest.mark.parametrize("kind", [DATA, HEADERS, SETTINGS, PING, 99])
def test_4_2_a_frame_beyond_the_limit_is_known_by_its_head(kind):
    assert server().fate((16_385).to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, 1])) == (CONNECTION, FRAME_SIZE_ERROR)


# What is wrong with one frame, after a request on stream 1 that has not ended and one on 3 that has.

WRONG = {
    "6.1 data on stream 0": (data(0, b"x"), CONNECTION, PROTOCOL_ERROR),
    "6.1 data on an idle stream": (data(5, b"x"), CONNECTION, PROTOCOL_ERROR),
    "6.1 data on an idle stream of ours": (data(2, b"x"), CONNECTION, PROTOCOL_ERROR),
    "6.1 padding as long as the frame": (frame(DATA, PADDED, 1, b"\x04abc"), CONNECTION, PROTOCOL_ERROR),
    "6.1 padding without its length": (frame(DATA, PADDED, 1, b""), CONNECTION, PROTOCOL_ERROR),
    "5.1 data after the end": (data(3, b"x"), STREAM, 3, STREAM_CLOSED),
    "6.2 headers on stream 0": (headers(0), CONNECTION, PROTOCOL_ERROR),
    "6.2 headers with too much padding": (
        frame(HEADERS, PADDED | END_HEADERS, 5, bytes([200]) + BLOCK),
        CONNECTION,
        PROTOCOL_ERROR,
    ),
    "6.2 headers too short for their priority": (
        frame(HEADERS, PRIORITIZED | END_HEADERS, 5, b"\0\0\0\0"),
        CONNECTION,
        FRAME_SIZE_ERROR,
    ),
    "5.1 headers after the end": (headers(3, end=True), STREAM, 3, STREAM_CLOSED),
    "6.3 priority on stream 0": (frame(PRIORITY, 0, 0, b"\0\0\0\1\1"), CONNECTION, PROTOCOL_ERROR),
    "6.3 priority of a wrong length": (frame(PRIORITY, 0, 1, b"\0\0\0\1"), STREAM, 1, FRAME_SIZE_ERROR),
    "6.3 priority of a wrong length, idle": (frame(PRIORITY, 0, 9, b"\0\0\0\1"), CONNECTION, FRAME_SIZE_ERROR),
    "5.3.1 priority that depends on itself": (frame(PRIORITY, 0, 1, b"\0\0\0\1\1"), STREAM, 1, PROTOCOL_ERROR),
    "5.3.1 the same, idle": (frame(PRIORITY, 0, 9, b"\x80\0\0\x09\1"), CONNECTION, PROTOCOL_ERROR),
    "5.3.1 headers that depend on themselves": (
        frame(HEADERS, PRIORITIZED | END_HEADERS | END_STREAM, 5, b"\0\0\0\5\1" + BLOCK),
        STREAM,
        5,
        PROTOCOL_ERROR,
    ),
    "6.4 reset of stream 0": (reset(0), CONNECTION, PROTOCOL_ERROR),
    "6.4 reset of an idle stream": (reset(5), CONNECTION, PROTOCOL_ERROR),
    "6.4 reset of a wrong length": (frame(RST_STREAM, 0, 1, b"\0\0\0"), CONNECTION, FRAME_SIZE_ERROR),
    "6.5 settings on a stream": (frame(SETTINGS, 0, 1), CONNECTION, PROTOCOL_ERROR),
    "6.5 an answer to settings with settings": (
        frame(SETTINGS, ACK, 0, b"\0\3\0\0\0\1"),
        CONNECTION,
        FRAME_SIZE_ERROR,
    ),
    "6.5 settings of a wrong length": (frame(SETTINGS, 0, 0, b"\0\3\0"), CONNECTION, FRAME_SIZE_ERROR),
    "6.5.2 a push setting of 2": (settings((wire.ENABLE_PUSH, 2)), CONNECTION, PROTOCOL_ERROR),
    "6.5.2 a window beyond its limit": (
        settings((wire.INITIAL_WINDOW_SIZE, 2**31)),
        CONNECTION,
        FLOW_CONTROL_ERROR,
    ),
    "6.5.2 a frame size below its limit": (settings((wire.MAX_FRAME_SIZE, 16_383)), CONNECTION, PROTOCOL_ERROR),
    "6.5.2 a frame size beyond its limit": (settings((wire.MAX_FRAME_SIZE, 2**24)), CONNECTION, PROTOCOL_ERROR),
    "6.6 a promise": (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + BLOCK), CONNECTION, PROTOCOL_ERROR),
    "6.7 ping on a stream": (frame(PING, 0, 1, b"12345678"), CONNECTION, PROTOCOL_ERROR),
    "6.7 ping of a wrong length": (frame(PING, 0, 0, b"1234567"), CONNECTION, FRAME_SIZE_ERROR),
    "6.8 goaway on a stream": (frame(GOAWAY, 0, 1, bytes(8)), CONNECTION, PROTOCOL_ERROR),
    "6.8 goaway of a wrong length": (frame(GOAWAY, 0, 0, bytes(7)), CONNECTION, FRAME_SIZE_ERROR),
    "6.9 a window of nothing for all": (window_update(0, 0), CONNECTION, PROTOCOL_ERROR),
    "6.9 a window of nothing": (window_update(1, 0), STREAM, 1, PROTOCOL_ERROR),
    "6.9 a window of a wrong length": (frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"), CONNECTION, FRAME_SIZE_ERROR),
    "6.9 a window on an idle stream": (window_update(5, 1), CONNECTION, PROTOCOL_ERROR),
    "6.9.1 a window beyond its limit": (window_update(1, 2**31 - 1), STREAM, 1, FLOW_CONTROL_ERROR),
    "6.9.1 a window beyond its limit for all": (window_update(0, 2**31 - 1), CONNECTION, FLOW_CONTROL_ERROR),
    "6.10 continuation of nothing": (frame(CONTINUATION, END_HEADERS, 1, BLOCK), CONNECTION, PROTOCOL_ERROR),
    "6.10 continuation on stream 0": (frame(CONTINUATION, END_HEADERS, 0, BLOCK), CONNECTION, PROTOCOL_ERROR),
    "5.1.1 a stream of a number that is not a client's": (headers(6), CONNECTION, PROTOCOL_ERROR),
    "4.3 a block that can't be read": (frame(HEADERS, END_HEADERS, 5, b"\x80"), CONNECTION, COMPRESSION_ERROR),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_frame_that_may_not_be_ends_its_stream_or_the_connection(case):
    said, *fate = WRONG[case]
    peer = server()
    peer.say(headers(1), headers(3, end=True))
    assert peer.fate(said) == tuple(fate)


@pytest.mark.parametrize("case", [case for case, fate in WRONG.items() if fate[1] == STREAM])
def test_what_ends_one_stream_leaves_the_others_and_the_next_ones(case):
    said, _, stream, _ = WRONG[case]
    peer = server()
    peer.say(headers(1), headers(3, end=True))
    events = peer.say(said, headers(7, end=True))
    assert [event.stream_id for event in events if isinstance(event, StreamReset)] == [stream]
    assert [event.stream_id for event in events if isinstance(event, HeadersReceived)] == [7]
    other = 3 if stream == 1 else 1
    assert peer.http.is_open(other)
    assert not peer.http.is_open(stream)


# What is allowed, though not often done.


@pytest.mark.parametrize(("padding", "payload"), [(0, b"abc"), (3, b"abc"), (255, b""), (1, b"")])
def test_6_1_padding_is_taken_away_and_counts_in_the_windows(padding, payload):
    peer = server()
    peer.say(headers(1))
    sent = bytes([padding]) + payload + b"\0" * padding
    assert peer.say(frame(DATA, PADDED | END_STREAM, 1, sent)) == [DataReceived(1, payload, True)]
    assert peer.http._receive_window == wire.WINDOW_BYTES - len(sent)


@pytest.mark.parametrize("pieces", [1, 2, 5, 1 + reader.CONTINUATIONS_MAX])
def test_6_10_a_block_may_come_in_pieces(pieces):
    whole = block({**REQUEST, "x": "y" * 100})
    cuts = [len(whole) * n // pieces for n in range(pieces + 1)]
    parts = [whole[a:b] for a, b in pairwise(cuts)]
    sent = [frame(HEADERS, END_STREAM | (END_HEADERS if pieces == 1 else 0), 1, parts[0])]
    sent += [
        frame(CONTINUATION, END_HEADERS if n == pieces - 1 else 0, 1, part) for n, part in enumerate(parts) if n > 0
    ]
    (event,) = server().say(*sent)
    assert event.ended
    assert event.headers.fields["x"] == "y" * 100


def test_6_2_headers_with_padding_and_priority_are_the_same_headers():
    plain, padded = server(), server()
    sent = bytes([7]) + b"\x80\0\0\x09\xff" + BLOCK + bytes(7)
    flags = PADDED | PRIORITIZED | END_HEADERS
    assert padded.say(frame(HEADERS, flags, 1, sent)) == plain.say(headers(1))


@pytest.mark.parametrize(
    "broken_in",
    [data(1, b"x"), headers(3), frame(PRIORITY, 0, 3, b"\0\0\0\0\1"), frame(PING, 0, 0, b"12345678"), settings()],
)
def test_6_10_nothing_comes_between_the_pieces_of_a_block(broken_in):
    peer = server()
    assert peer.fate(frame(HEADERS, 0, 1, BLOCK[:5]), broken_in) == (CONNECTION, PROTOCOL_ERROR)


def test_6_10_a_block_goes_on_on_its_own_stream():
    begun = frame(HEADERS, 0, 1, BLOCK[:5])
    assert server().fate(begun, frame(CONTINUATION, END_HEADERS, 3, BLOCK[5:])) == (CONNECTION, PROTOCOL_ERROR)


@pytest.mark.parametrize("piece", [b"", b"x" * 16_384])
def test_10_5_a_block_without_end_ends_the_connection(piece):
    said = frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1, piece) * (reader.CONTINUATIONS_MAX + 1)
    assert server().fate(said) == (CONNECTION, ENHANCE_YOUR_CALM)


@pytest.mark.parametrize("stream", [1, 3, 5, 2, 2**31 - 1])
def test_5_1_priority_may_come_on_any_stream(stream):
    peer = server()
    peer.say(headers(1), headers(3, end=True))
    assert peer.fate(frame(PRIORITY, 0, stream, b"\0\0\0\0\x10")) is None


def test_6_7_a_ping_is_answered_with_its_own_bytes_and_an_answer_is_not():
    peer = server()
    assert peer.say(frame(PING, 0, 0, b"12345678"), frame(PING, ACK, 0, b"87654321")) == []
    assert peer.sent() == [(PING, ACK, 0, b"12345678")]


def test_6_7_a_ping_of_ours_is_a_ping():
    peer = server()
    peer.http.ping()
    assert [(kind, flags, stream, len(payload)) for kind, flags, stream, payload in peer.sent()] == [(PING, 0, 0, 8)]


def test_6_5_2_unknown_settings_and_the_last_of_several_count():
    peer = server()
    assert peer.fate(settings((0xFFFF, 7), (wire.INITIAL_WINDOW_SIZE, 5), (wire.INITIAL_WINDOW_SIZE, 9))) is None
    peer.say(headers(1))
    assert peer.http.sendable_bytes(1) == 9


def test_6_4_a_reset_is_told_once_and_not_answered():
    peer = server()
    peer.say(headers(1))
    assert peer.say(reset(1, code=99)) == [StreamReset(1, 99)]
    assert peer.say(reset(1)) == []
    assert peer.sent() == []


def test_6_8_a_goodbye_of_the_client_leaves_what_is_under_way():
    peer = server()
    peer.say(headers(1))
    assert peer.fate(goaway(0)) is None
    assert peer.say(data(1, b"x", end=True)) == [DataReceived(1, b"x", True)]


def test_6_8_a_second_goodbye_names_no_higher_stream():
    peer = server()
    peer.say(headers(1))
    peer.http.send_goaway()
    peer.say(headers(3))
    assert peer.fate(frame(PING, 0, 1, b"12345678")) == (CONNECTION, PROTOCOL_ERROR)
    other = server()
    other.say(headers(1))
    other.http.send_goaway()
    other.say(headers(3))
    other.http.send_goaway()
    assert [payload[:4] for *_, payload in other.sent(GOAWAY)] == [b"\0\0\0\1"] * 2


# 10.5 What asks for nothing.

BUSY = {
    "pings": frame(PING, 0, 0, b"12345678"),
    "answers to pings": frame(PING, ACK, 0, b"12345678"),
    "settings": settings(),
    "answers to settings": frame(SETTINGS, ACK),
    "priorities": frame(PRIORITY, 0, 9, b"\0\0\0\0\1"),
    "unknown frames": frame(99),
    "goodbyes": goaway(),
    "empty data": data(1),
    "padding": frame(DATA, PADDED, 1, b"\0"),
    "data on a stream that was reset here": data(3, b"x" * 100),
    "headers on a stream that was reset here": headers(3),
    "data that is less than its head": data(1, b"x" * 8),
    "windows of the connection": window_update(0, 1),
    "windows of a stream": window_update(1, 1),
    "windows of a stream that was reset here": window_update(3, 1),
}


@pytest.mark.parametrize("case", BUSY)
def test_10_5_a_peer_that_is_busy_without_asking_for_anything_is_let_go(case):
    peer = server(limited(idle_frames_max=50))
    peer.say(headers(1), headers(3))
    peer.http.reset(3, 0)
    for _ in range(3):
        peer.http.reset_flood_counts()
        assert peer.fate(*[BUSY[case]] * 50) in (None, (STREAM, 3, 0))
    assert peer.fate(BUSY[case]) == (CONNECTION, ENHANCE_YOUR_CALM)


def test_10_5_bodies_and_their_ends_ask_for_something():
    peer = server(limited(idle_frames_max=5))
    for stream in range(1, 20, 2):
        assert peer.fate(headers(stream), *[data(stream, b"x" * 9)] * 3, data(stream, end=True)) is None
        peer.http.reset(stream, 0)
        peer.sent()


def test_10_5_settings_count_for_as_much_as_the_streams_whose_windows_they_change():
    peer = server(limited(idle_frames_max=50, changes_per_idle_frame=1))
    peer.say(headers(1), headers(3), headers(5))
    assert peer.fate(*[settings((wire.INITIAL_WINDOW_SIZE, n)) for n in range(9)]) is None
    assert peer.fate(settings()) == (CONNECTION, ENHANCE_YOUR_CALM)


def test_10_5_windows_are_opened_for_data_that_was_sent():
    peer = server(limited(idle_frames_max=5))
    peer.say(headers(1))
    per_frame = FloodLimits().window_updates_per_data_frame
    peer.http.reset_flood_counts()
    for _ in range(20):
        peer.http.send_data(1, b"x" * 100)
    assert peer.fate(*[window_update(1, 1), window_update(0, 1)] * (10 * per_frame)) is None
    assert peer.fate(*[window_update(0, 1)] * 5) is None
    assert peer.fate(window_update(1, 1)) == (CONNECTION, ENHANCE_YOUR_CALM)


def test_10_5_windows_that_were_not_opened_are_not_saved_up_for_long():
    peer = server(limited(idle_frames_max=5))
    peer.say(headers(1))
    for _ in range(1_000):
        peer.http.send_data(1, b"x")
    peer.http.reset_flood_counts()
    assert peer.fate(*[window_update(0, 1)] * 10) is None
    assert peer.fate(window_update(0, 1)) == (CONNECTION, ENHANCE_YOUR_CALM)


MADE_TO_RESET = {  # CVE-2025-8671
    "a window of nothing": lambda stream: headers(stream) + window_update(stream, 0),
    "a window beyond its limit": lambda stream: headers(stream) + window_update(stream, 2**31 - 1),
    "priority of a wrong length": lambda stream: headers(stream) + frame(PRIORITY, 0, stream, b"\0"),
    "data after the end": lambda stream: headers(stream, end=True) + data(stream, b"x"),
    "headers after the end": lambda stream: headers(stream, end=True) + headers(stream, end=True),
    "bad headers": lambda stream: headers(stream, {":method": "POST"}),
    "reset by itself": lambda stream: headers(stream) + reset(stream),  # CVE-2023-44487
}


@pytest.mark.parametrize("case", MADE_TO_RESET)
def test_10_5_streams_that_come_to_nothing_end_the_connection_whoever_resets_them(case):
    peer = server(limited(resets_max=20))
    for number in range(20):
        peer.say(MADE_TO_RESET[case](2 * number + 1))
    peer.sent()
    assert peer.fate(MADE_TO_RESET[case](41)) == (CONNECTION, ENHANCE_YOUR_CALM)
    assert len(peer.http._streams) <= 1
