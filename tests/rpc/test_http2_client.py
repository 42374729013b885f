"""The client's role of the machine (RFC 9113), told what servers say, good ones and others."""

from __future__ import annotations

import pytest

from orchy.rpc.http2.events import (
    DataReceived,
    GoingAway,
    HeadersReceived,
    Role,
    SettingsReceived,
    StreamReset,
    WindowOpened,
)
from orchy.rpc.http2.frames import STREAM_ID_LIMIT, ErrorCode, ProtocolError
from tests.rpc import wire
from tests.rpc.wire import (
    END_HEADERS,
    HEADERS,
    PREFACE,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REQUEST,
    RESPONSE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    Peer,
    block,
    client,
    data,
    frame,
    goaway,
    headers,
    reset,
    settings,
    window_update,
)

BLOCK = block(REQUEST)


def asked(count: int = 1) -> Peer:
    """A client with requests under way that have ended, on streams 1, 3, ..."""
    peer = client()
    for _ in range(count):
        peer.http.send_data(peer.http.open_stream(BLOCK), b"", end_stream=True)
    peer.sent()
    return peer


def test_3_4_a_client_begins_with_the_preface_and_its_settings_and_wants_no_promises():
    initial_frames = Peer(Role.CLIENT).initial_frames
    assert initial_frames.startswith(PREFACE)
    (first, *_) = wire.frames_of(initial_frames[len(PREFACE) :])
    assert first[0] == SETTINGS
    assert b"\0\2\0\0\0\0" in first[3]


@pytest.mark.parametrize("beginning", [b"HTTP/1.1 400 Bad Request\r\n\r\n", PREFACE, headers(1, RESPONSE)])
def test_3_4_a_server_begins_with_its_settings(beginning):
    kind, _ = Peer(Role.CLIENT).fate(beginning)
    assert kind == "connection"


def test_5_1_1_streams_have_odd_numbers_that_rise():
    peer = client()
    assert [peer.http.open_stream(BLOCK) for _ in range(3)] == [1, 3, 5]
    assert [stream for _, _, stream, _ in peer.sent(HEADERS)] == [1, 3, 5]


def test_5_1_1_when_the_numbers_are_used_up_there_are_no_more():
    peer = client()
    peer.http._next_id = STREAM_ID_LIMIT
    assert peer.http.open_stream(BLOCK) == STREAM_ID_LIMIT
    with pytest.raises(ProtocolError):
        peer.http.open_stream(BLOCK)


def test_an_answer_comes_as_headers_data_and_trailers():
    peer = asked()
    events = peer.say(headers(1, RESPONSE), data(1, b"x"), headers(1, {"grpc-status": "0"}, end=True))
    assert [type(event) for event in events] == [HeadersReceived, DataReceived, HeadersReceived]
    assert [event.ended for event in events] == [False, False, True]
    assert not peer.http._streams
    assert peer.http._peer_streams == 0  # they are ours


def test_an_answer_before_the_end_of_the_request_leaves_the_stream_open_here():
    peer = client()
    stream = peer.http.open_stream(BLOCK)
    peer.say(headers(stream, RESPONSE, end=True))
    assert peer.http.is_open(stream)
    peer.http.reset(stream, ErrorCode.CANCEL)
    assert not peer.http._streams
    peer.sent()
    assert peer.fate(data(stream, b"x")) is None


@pytest.mark.parametrize("status", ["100", "103", "199"])
def test_8_1_interim_responses_are_passed_over(status):
    peer = asked()
    (event,) = peer.say(headers(1, {":status": status}), headers(1, {":status": status}), headers(1, RESPONSE))
    assert event.headers.fields == RESPONSE
    assert not event.ended


BAD_ANSWERS = {
    "an interim response that ends": headers(1, {":status": "100"}, end=True),
    "no status": headers(1, {"x": "y"}),
    "a status that is no number": headers(1, {":status": "2xx"}),
    "a status of other digits": headers(1, {":status": "\u0662\u0660\u0660"}),
    "a status that is too long": headers(1, {":status": "2000"}),
    "a request": headers(1, REQUEST),
    "data before headers": data(1, b"x"),
    "trailers that do not end": headers(1, RESPONSE) + headers(1, {"x": "y"}),
    "trailers with a status": headers(1, RESPONSE) + headers(1, RESPONSE, end=True),
    "less than its content-length": headers(1, {**RESPONSE, "content-length": "3"}) + data(1, b"ab", end=True),
    "more than its content-length": headers(1, {**RESPONSE, "content-length": "1"}) + data(1, b"ab"),
    "an uppercase name": headers(1, {**RESPONSE, "X": "y"}),
}


@pytest.mark.parametrize("case", BAD_ANSWERS)
def test_8_1_1_an_answer_that_may_not_be_ends_its_stream_and_no_other(case):
    peer = asked(2)
    assert peer.fate(BAD_ANSWERS[case]) == ("stream", 1, PROTOCOL_ERROR)
    assert [type(event) for event in peer.say(headers(3, RESPONSE, end=True))] == [HeadersReceived]


BAD_FRAMES = {
    "8.4 a promise": frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + BLOCK),
    "5.1.1 a stream of the server": headers(2, RESPONSE),
    "5.1 headers on a stream that was never opened": headers(99, RESPONSE),
    "5.1 data on a stream that was never opened": data(99, b"x"),
    "6.4 a reset of a stream that was never opened": reset(99),
    "6.9 a window of a stream that was never opened": window_update(99, 1),
    "6.5.2 a server that wants promises": settings((wire.ENABLE_PUSH, 1)),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_what_no_server_says_ends_the_connection(case):
    assert asked().fate(BAD_FRAMES[case]) == ("connection", PROTOCOL_ERROR)


@pytest.mark.parametrize("said", [headers(1, RESPONSE, end=True), data(1, b"x")], ids=["headers", "data"])
def test_5_1_what_comes_on_a_stream_that_is_closed_is_not_the_end_of_the_others(said):
    peer = asked(2)
    peer.say(headers(1, RESPONSE, end=True))
    assert peer.fate(said) == ("stream", 1, STREAM_CLOSED)
    assert [type(event) for event in peer.say(headers(3, RESPONSE, end=True))] == [HeadersReceived]


def test_a_call_that_was_given_up_may_still_be_answered():
    peer = asked(2)
    peer.http.reset(1, ErrorCode.CANCEL)
    assert [stream for _, _, stream, _ in peer.sent(RST_STREAM)] == [1]
    late = [headers(1, RESPONSE), data(1, b"x"), headers(1, {"grpc-status": "0"}, end=True), reset(1)]
    assert peer.say(*late) == []
    assert peer.sent() == []


def test_a_goodbye_is_told_and_what_is_under_way_goes_on():
    peer = asked(2)
    assert peer.say(goaway(1, wire.NO_ERROR)) == [GoingAway(1, 0)]
    assert peer.say(reset(3, wire.REFUSED_STREAM)) == [StreamReset(3, wire.REFUSED_STREAM)]
    assert [event.ended for event in peer.say(headers(1, RESPONSE, end=True))] == [True]


def test_windows_and_settings_are_told():
    peer = asked()
    assert peer.say(window_update(0, 5), window_update(1, 5), settings((wire.MAX_CONCURRENT_STREAMS, 7))) == [
        WindowOpened(0),
        WindowOpened(1),
        SettingsReceived(),
    ]
    assert peer.http.peer.streams_max == 7
    assert peer.fate(settings((wire.ENABLE_PUSH, 0))) is None


def test_4_2_a_server_with_a_small_table_is_told_that_none_is_used():
    peer = client()
    peer.say(settings((wire.HEADER_TABLE_SIZE, 0)))
    peer.sent()
    peer.http.open_stream(BLOCK)
    peer.http.open_stream(BLOCK)
    assert [payload for *_, payload in peer.sent(HEADERS)] == [b"\x20" + BLOCK, BLOCK]
