"""The life of streams and the flow of bytes (RFC 9113, sections 5 and 6.9), both ways, told to a server's machine."""

from __future__ import annotations

import attrs
import pytest

from orchy.rpc.http2.events import DataReceived, HeadersReceived, SettingsReceived, StreamReset, WindowOpened
from orchy.rpc.http2.frames import ErrorCode
from tests.rpc import wire
from tests.rpc.wire import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LIMITS,
    MAX_FRAME_SIZE,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RESPONSE,
    RST_STREAM,
    STREAM_CLOSED,
    STREAM_WINDOW_BYTES,
    STREAMS_MAX,
    WINDOW_UPDATE,
    block,
    data,
    headers,
    reset,
    server,
    settings,
    window_update,
)

HEAD = block(RESPONSE)
TAIL = block({"grpc-status": "0"})


# 5.1 States.


def test_5_1_a_request_and_its_answer_close_the_stream():
    peer = server()
    assert [(type(event), event.ended) for event in peer.say(headers(1), data(1, b"x"), data(1, end=True))] == [
        (HeadersReceived, False),
        (DataReceived, False),
        (DataReceived, True),
    ]
    peer.http.send_headers(1, HEAD)
    peer.http.send_data(1, b"y")
    assert peer.http.is_open(1)
    peer.http.send_headers(1, TAIL, end_stream=True)
    assert not peer.http.is_open(1)
    assert peer.sent() == [
        (HEADERS, END_HEADERS, 1, HEAD),
        (DATA, 0, 1, b"y"),
        (HEADERS, END_HEADERS | END_STREAM, 1, TAIL),
    ]
    assert not peer.http._streams


@pytest.mark.parametrize(
    ("said", "fate"),
    [
        (data(1, b"x"), ("stream", 1, STREAM_CLOSED)),
        (headers(1, end=True), ("connection", STREAM_CLOSED)),
        (window_update(1, 1), None),
        (reset(1), None),
    ],
    ids=["data", "headers", "window", "reset"],
)
@pytest.mark.parametrize("closed_by", ["its end", "a reset of the peer"])
def test_5_1_what_comes_on_a_stream_that_is_closed(said, fate, closed_by):
    peer = server()
    if closed_by == "its end":
        peer.say(headers(1, end=True))
        peer.http.send_headers(1, HEAD, end_stream=True)
    else:
        peer.say(headers(1), reset(1))
    peer.sent()
    assert peer.fate(said) == fate


@pytest.mark.parametrize("said", [data(1, b"x"), headers(1, {"x": "y"}, end=True), window_update(1, 1), reset(1)])
def test_5_1_what_is_still_on_its_way_to_a_stream_that_was_reset_here_is_ignored(said):
    peer = server()
    peer.say(headers(1))
    peer.http.reset(1, ErrorCode.CANCEL)
    peer.sent()
    assert peer.say(said) == []
    assert peer.sent() == []


def test_5_1_only_so_many_streams_that_were_reset_here_are_remembered():
    peer = server(attrs.evolve(LIMITS, reset_streams_remembered=2))
    for stream in (1, 3, 5):
        peer.say(headers(stream))
        peer.http.reset(stream, ErrorCode.CANCEL)
    peer.sent()
    assert peer.say(data(3, b"x"), data(5, b"x")) == []
    assert peer.fate(data(1, b"x")) == ("stream", 1, STREAM_CLOSED)


def test_5_1_half_closed_windows_still_open_and_resets_still_count():
    peer = server()
    peer.say(headers(1, end=True), headers(3, end=True))
    before = peer.http.sendable_bytes(1)
    assert peer.say(window_update(0, 100_000), window_update(1, 100)) == [WindowOpened(0), WindowOpened(1)]
    assert peer.http.sendable_bytes(1) == before + 100
    assert peer.say(reset(3)) == [StreamReset(3, wire.CANCEL)]


def test_5_1_1_numbers_only_rise_and_those_that_were_left_out_are_closed():
    peer = server()
    peer.say(headers(5))
    assert peer.fate(headers(3)) == ("connection", STREAM_CLOSED)


@pytest.mark.parametrize("stream", [2, 4, 2**31 - 2])
def test_5_1_1_a_client_opens_odd_streams(stream):
    assert server().fate(headers(stream)) == ("connection", PROTOCOL_ERROR)


def test_5_1_2_a_stream_more_than_allowed_is_refused_and_the_rest_of_its_request_ignored():
    peer = server()
    allowed = [2 * number + 1 for number in range(STREAMS_MAX)]
    peer.say(*(headers(stream) for stream in allowed))
    assert peer.fate(headers(99)) == ("stream", 99, REFUSED_STREAM)
    assert peer.say(data(99, b"x"), headers(99, {"x": "y"}, end=True)) == []
    assert peer.sent() == []
    peer.say(reset(1))
    assert peer.fate(headers(101)) is None


@pytest.mark.parametrize("how", ["answered", "reset there", "reset here", "broken"])
def test_5_1_2_a_stream_that_is_over_makes_room_for_another(how):
    peer = server()
    for number in range(10 * STREAMS_MAX):
        stream = 2 * number + 1
        peer.say(headers(stream, end=how == "answered"))
        match how:
            case "answered":
                peer.http.send_headers(stream, HEAD, end_stream=True)
            case "reset there":
                peer.say(reset(stream))
            case "reset here":
                peer.http.reset(stream, ErrorCode.CANCEL)
            case _:
                peer.say(window_update(stream, 0))
    assert not peer.http._streams
    assert not [sent for sent in peer.sent(RST_STREAM) if sent[3][-1] == REFUSED_STREAM]


def test_an_answer_before_the_end_of_its_request_keeps_the_stream_until_that_or_a_reset():
    peer = server()
    peer.say(headers(1), headers(3))
    for stream in (1, 3):
        peer.http.send_headers(stream, HEAD, end_stream=True)
    peer.http.reset(1, ErrorCode.NO_ERROR)
    assert [(kind, stream, payload[-1:]) for kind, _, stream, payload in peer.sent(RST_STREAM)] == [
        (RST_STREAM, 1, bytes([NO_ERROR]))
    ]
    assert peer.say(data(3, b"x", end=True)) == [DataReceived(3, b"x", True)]
    assert not peer.http._streams


def test_nothing_is_sent_on_a_stream_that_is_no_more():
    peer = server()
    peer.say(headers(1), reset(1))
    peer.http.send_headers(1, HEAD)
    peer.http.send_data(1, b"x", end_stream=True)
    peer.http.reset(1, ErrorCode.CANCEL)
    assert peer.http.sendable_bytes(1) == 0
    assert peer.sent() == []


# 6.9 What may be sent.


def test_6_9_what_may_be_sent_is_the_smaller_of_both_windows():
    peer = server()
    assert peer.say(settings((INITIAL_WINDOW_SIZE, 70_000)), headers(1), headers(3))[0] == SettingsReceived()
    assert peer.http.sendable_bytes(1) == 65_535
    peer.http.send_data(1, b"x" * 65_535)
    assert (peer.http.sendable_bytes(1), peer.http.sendable_bytes(3)) == (0, 0)
    peer.say(window_update(0, 5_000))
    assert (peer.http.sendable_bytes(1), peer.http.sendable_bytes(3)) == (4_465, 5_000)
    peer.say(window_update(1, 100))
    assert (peer.http.sendable_bytes(1), peer.http.sendable_bytes(3)) == (4_565, 5_000)


def test_6_9_2_a_change_of_the_initial_window_changes_those_of_the_streams_below_zero_too():
    peer = server()
    peer.say(settings((INITIAL_WINDOW_SIZE, 1_000)), headers(1))
    peer.http.send_data(1, b"x" * 900)
    peer.say(settings((INITIAL_WINDOW_SIZE, 0)))
    assert peer.http.sendable_bytes(1) == -900
    peer.say(window_update(1, 800))
    assert peer.http.sendable_bytes(1) == -100
    peer.say(settings((INITIAL_WINDOW_SIZE, 150)), headers(3))
    assert (peer.http.sendable_bytes(1), peer.http.sendable_bytes(3)) == (50, 150)


def test_6_9_2_the_window_of_the_connection_is_not_changed_by_settings():
    peer = server()
    peer.say(settings((INITIAL_WINDOW_SIZE, 2**31 - 1)), headers(1))
    assert peer.http.sendable_bytes(1) == 65_535


def test_6_9_2_settings_that_make_a_window_too_large_end_the_connection():
    peer = server()
    peer.say(headers(1), window_update(1, 100))
    assert peer.fate(settings((INITIAL_WINDOW_SIZE, 2**31 - 1))) == ("connection", FLOW_CONTROL_ERROR)


@pytest.mark.parametrize("stream", [0, 1])
def test_6_9_1_a_window_may_be_2_to_the_31_less_1(stream):
    peer = server()
    peer.say(headers(1))
    assert peer.fate(window_update(stream, 2**31 - 1 - 65_535)) is None
    assert peer.fate(window_update(stream, 1)) is not None


@pytest.mark.parametrize("frame_bytes", [16_384, 20_000])
def test_4_2_frames_are_as_large_as_the_peer_takes_them(frame_bytes):
    peer = server()
    peer.say(settings((MAX_FRAME_SIZE, frame_bytes), (INITIAL_WINDOW_SIZE, 10**6)), window_update(0, 10**6), headers(1))
    peer.sent()
    peer.http.send_data(1, b"x" * (2 * frame_bytes + 1), end_stream=True)
    assert [(flags, len(payload)) for _, flags, _, payload in peer.sent(DATA)] == [
        (0, frame_bytes),
        (0, frame_bytes),
        (END_STREAM, 1),
    ]


def test_4_3_a_long_header_block_is_sent_in_pieces():
    peer = server()
    peer.say(headers(1, end=True))
    peer.http.send_headers(1, block({**RESPONSE, "x": "y" * 40_000}), end_stream=True)
    sent = peer.sent()
    assert [(kind, flags, len(payload) <= 16_384) for kind, flags, _, payload in sent] == [
        (HEADERS, END_STREAM, True),
        (wire.CONTINUATION, 0, True),
        (wire.CONTINUATION, END_HEADERS, True),
    ]


# 6.9 What may come.


def given_back(peer, stream):
    return sum(int.from_bytes(payload, "big") for _, _, of, payload in peer.sent(WINDOW_UPDATE) if of == stream)


def test_6_9_windows_are_given_back_by_halves():
    peer = server()
    peer.say(headers(1), *[data(1, b"x" * 10_000)] * 5)
    assert given_back(peer, 1) == 0
    peer.say(data(1, b"x"))
    assert given_back(peer, 1) == 50_001


def test_6_9_a_peer_that_keeps_to_the_windows_may_send_for_ever():
    peer = server()
    peer.say(headers(1))
    windows = {0: wire.WINDOW_BYTES, 1: STREAM_WINDOW_BYTES}
    for _ in range(200):
        size = min(*windows.values(), 16_384)
        assert size > 0
        peer.say(data(1, b"x" * size))
        for stream in windows:
            windows[stream] -= size
        for _, _, stream, payload in peer.sent(WINDOW_UPDATE):
            windows[stream] += int.from_bytes(payload, "big")


def test_6_9_more_than_the_streams_window_ends_the_stream_and_is_not_told():
    peer = server()
    peer.say(headers(1))
    peer.http.hold_window(1)
    peer.say(*[data(1, b"x" * 10_000)] * 10)
    assert peer.fate(data(1, b"x")) == ("stream", 1, FLOW_CONTROL_ERROR)


def test_6_9_more_than_the_window_of_all_ends_the_connection():
    peer = server()
    peer.http._receive_window = 10
    peer.http._window_bytes = 10
    peer.say(headers(1))
    assert peer.fate(data(1, b"x" * 11)) == ("connection", FLOW_CONTROL_ERROR)


def test_6_9_data_that_is_ignored_gives_the_window_of_all_back():
    peer = server()
    peer.say(headers(1))
    peer.http.reset(1, ErrorCode.CANCEL)
    peer.sent()
    for _ in range(100):
        assert peer.say(data(1, b"x" * 16_384)) == []
    assert given_back(peer, 0) >= 100 * 16_384 - wire.WINDOW_BYTES


def test_a_window_that_is_held_is_given_back_when_it_is_released():
    peer = server()
    peer.say(headers(1))
    peer.http.hold_window(1)
    peer.say(*[data(1, b"x" * 10_000)] * 9)
    assert given_back(peer, 1) == 0
    peer.http.release_window(1)
    assert given_back(peer, 1) == 90_000
    peer.say(*[data(1, b"x" * 10_000)] * 6)
    assert given_back(peer, 1) == 60_000


def test_a_window_that_is_hardly_used_is_not_given_back_at_its_release():
    peer = server()
    peer.say(headers(1), data(1, b"x"))
    for stream in (1, 99):
        peer.http.hold_window(stream)
        peer.http.release_window(stream)
    assert peer.sent() == []


def test_a_window_is_not_given_back_after_the_end():
    peer = server()
    peer.say(headers(1))
    peer.http.hold_window(1)
    peer.say(*[data(1, b"x" * 10_000)] * 9, data(1, end=True))
    peer.http.release_window(1)
    assert given_back(peer, 1) == 0


def test_6_9_2_settings_may_make_a_window_as_large_as_it_may_be():
    peer = server()
    peer.say(headers(1))
    assert peer.fate(settings((INITIAL_WINDOW_SIZE, 2**31 - 1))) is None
