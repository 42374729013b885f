"""What a request may be (RFC 9113, section 8), how its headers are packed (RFC 7541); told to a server's machine."""

from __future__ import annotations

import time

import hpack
import pytest

from orchy.rpc.http2 import headers as limits
from orchy.rpc.http2.events import DataReceived, HeadersReceived
from tests.rpc import wire
from tests.rpc.wire import (
    COMPRESSION_ERROR,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    PROTOCOL_ERROR,
    REQUEST,
    block,
    data,
    frame,
    headers,
    server,
)

MALFORMED = ("stream", 1, PROTOCOL_ERROR)


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in REQUEST.items() if key != name}


# 8.2 Fields.

BAD_FIELDS = {
    "8.2.1 an uppercase name": ("X-Test", "x"),
    "8.2.1 a name with a space": ("x test", "x"),
    "8.2.1 a name with a colon": ("x:y", "x"),
    "8.2.1 a name of a control character": ("x\x7f", "x"),
    "8.2.1 a name that is not ASCII": ("ä", "x"),
    "8.2.1 an empty name": ("", "x"),
    "8.2.1 a value with a line feed": ("x", "a\nb"),
    "8.2.1 a value with a carriage return": ("x", "a\rb"),
    "8.2.1 a value with a null": ("x", "a\0b"),
    "8.2.1 a value that begins with a space": ("x", " a"),
    "8.2.1 a value that ends with a tab": ("x", "a\t"),
    "8.2.1 a value that ends with a line feed": ("x", "a\n"),
    "8.2.2 connection": ("connection", "keep-alive"),
    "8.2.2 keep-alive": ("keep-alive", "5"),
    "8.2.2 proxy-connection": ("proxy-connection", "keep-alive"),
    "8.2.2 transfer-encoding": ("transfer-encoding", "chunked"),
    "8.2.2 upgrade": ("upgrade", "h2c"),
    "8.2.2 te other than trailers": ("te", "trailers, deflate"),
    "8.3 a pseudo-header of responses": (":status", "200"),
    "8.3 a pseudo-header that nobody knows": (":test", "x"),
    "8.3 a pseudo-header after others": (":authority", "b"),
    "8.1.1 a content-length that is no number": ("content-length", "x"),
    "8.1.1 a content-length below zero": ("content-length", "-1"),
    "8.1.1 a content-length of other digits": ("content-length", "\u0661"),
    "8.1.1 a content-length that is beyond all bounds": ("content-length", "9" * 16),
}


@pytest.mark.parametrize("case", BAD_FIELDS)
def test_a_field_that_may_not_be_ends_the_stream_and_no_other(case):
    peer = server()
    fields = [*REQUEST.items(), ("a", "b"), BAD_FIELDS[case]]
    assert peer.fate(headers(1, fields)) == MALFORMED
    assert [type(event) for event in peer.say(headers(3))] == [HeadersReceived]


@pytest.mark.parametrize("name", [name for case, (name, _) in BAD_FIELDS.items() if case.startswith("8.2")])
def test_8_1_what_may_not_be_in_headers_may_not_be_in_trailers(name):
    value = next(value for case, (key, value) in BAD_FIELDS.items() if key == name)
    peer = server()
    peer.say(headers(1))
    assert peer.fate(headers(1, [(name, value)], end=True)) == MALFORMED


@pytest.mark.parametrize("field", [("te", "trailers"), ("x", ""), ("x", "a b\tc"), ("x-!#$%&'*+-.^_`|~9", "ä✓")])
def test_8_2_fields_that_may_be(field):
    (event,) = server().say(headers(1, [*REQUEST.items(), field]))
    assert event.headers.fields[field[0]] == field[1]


def test_8_2_a_value_that_is_no_text_ends_the_stream_and_the_table_goes_on():
    peer = server()
    kept = b"\x40\x01x\x01\xff"  # a literal that is kept in the table
    assert peer.fate(frame(HEADERS, END_HEADERS, 1, block(REQUEST) + kept)) == MALFORMED
    assert peer.fate(frame(HEADERS, END_HEADERS, 3, block(REQUEST) + b"\xbe")) == ("stream", 3, PROTOCOL_ERROR)
    (event,) = peer.say(frame(HEADERS, END_HEADERS, 5, block(REQUEST) + b"\x40\x01x\x01y\xbe"))
    assert event.headers.fields["x"] == "y, y"


# 8.3.1 Requests.


@pytest.mark.parametrize("name", [":method", ":scheme", ":path"])
@pytest.mark.parametrize("how", ["missing", "empty", "twice"])
def test_8_3_1_a_request_has_one_method_one_scheme_and_one_path(name, how):
    fields = {
        "missing": list(without(name).items()),
        "empty": list({**REQUEST, name: ""}.items()),
        "twice": [(name, REQUEST[name]), *REQUEST.items()],
    }[how]
    assert server().fate(headers(1, fields)) == MALFORMED


def test_8_3_1_an_authority_may_be_missing():
    assert server().fate(headers(1, without(":authority"))) is None


def test_8_5_connect_is_not_for_this_server():
    assert server().fate(headers(1, {":method": "CONNECT", ":authority": "a:1"})) == MALFORMED


# 8.1 Messages.


@pytest.mark.parametrize("body", [b"", b"xyz"])
def test_8_1_a_request_may_have_trailers(body):
    peer = server()
    sent = [headers(1), *([data(1, body)] if body else []), headers(1, {"x": "y"}, end=True)]
    *_, trailers = peer.say(*sent)
    assert (trailers.headers.fields, trailers.ended) == ({"x": "y"}, True)


def test_8_1_trailers_end_the_stream():
    peer = server()
    assert peer.fate(headers(1), headers(1, {"x": "y"})) == MALFORMED


@pytest.mark.parametrize("name", [":method", ":path", ":status", ":x"])
def test_8_1_trailers_have_no_pseudo_headers(name):
    peer = server()
    assert peer.fate(headers(1), data(1, b"x"), headers(1, {name: "x"}, end=True)) == MALFORMED


@pytest.mark.parametrize(
    ("length", "bodies", "trailers", "well"),
    [
        ("0", [], False, True),
        ("0", [b""], False, True),
        ("3", [b"abc"], False, True),
        ("3", [b"a", b"", b"bc"], True, True),
        ("3", [], False, False),
        ("3", [b"ab"], False, False),
        ("3", [b"ab"], True, False),
        ("3", [b"ab", b"cd"], False, False),
        ("0", [b"a"], False, False),
        ("3, 3", [b"abc"], False, False),
    ],
)
def test_8_1_1_a_body_is_as_long_as_its_content_length(length, bodies, trailers, well):
    peer = server()
    ends_at_once = not bodies and not trailers
    sent = [headers(1, {**REQUEST, "content-length": length}, end=ends_at_once)]
    sent += [data(1, body, end=n == len(bodies) and not trailers) for n, body in enumerate(bodies, 1)]
    sent += [headers(1, {"x": "y"}, end=True)] * trailers
    assert peer.fate(*sent) == (None if well else MALFORMED)


def test_8_1_1_padding_is_not_of_the_body():
    peer = server()
    padded = frame(wire.DATA, wire.PADDED | END_STREAM, 1, b"\x05abc" + bytes(5))
    assert peer.say(headers(1, {**REQUEST, "content-length": "3"}), padded)[1] == DataReceived(1, b"abc", True)


# RFC 7541.


def fields_of(peer, stream, packed):
    (event,) = peer.say(frame(HEADERS, END_HEADERS | END_STREAM, stream, packed))
    return dict(event.headers.fields)


def test_2_3_2_what_was_kept_in_the_table_is_meant_again():
    peer, encoder = server(), hpack.Encoder()
    for stream in range(1, 40, 2):
        wanted = {**REQUEST, "x": f"value {stream % 6}", f"y{stream % 4}": "z"}
        assert fields_of(peer, stream, encoder.encode(wanted.items())) == wanted
        peer.http.send_headers(stream, block(wire.RESPONSE), end_stream=True)


def test_a_block_that_is_remembered_means_another_thing_when_the_table_is_another():
    peer = server()
    indexed = block(REQUEST) + b"\xbe"  # the newest entry of the table
    peer.say(frame(HEADERS, END_HEADERS, 1, block(REQUEST) + b"\x40\x01x\x01a"))
    assert [fields_of(peer, stream, indexed)["x"] for stream in (3, 5)] == ["a", "a"]
    for stream in (3, 5):
        peer.http.send_headers(stream, block(wire.RESPONSE), end_stream=True)
    peer.say(frame(HEADERS, END_HEADERS, 7, block(REQUEST) + b"\x40\x01x\x01b"))
    assert fields_of(peer, 9, indexed)["x"] == "b"


def test_a_block_that_is_remembered_is_none_when_its_entry_is_gone():
    peer = server()
    indexed = block(REQUEST) + b"\xbe"
    peer.say(frame(HEADERS, END_HEADERS, 1, block(REQUEST) + b"\x40\x01x\x01a"))
    assert fields_of(peer, 3, indexed)["x"] == "a"
    peer.say(frame(HEADERS, END_HEADERS, 5, b"\x20\x3f\xe1\x1f" + block(REQUEST)))  # to 0 bytes and back to 4,096
    assert peer.fate(frame(HEADERS, END_HEADERS, 7, indexed)) == ("connection", COMPRESSION_ERROR)


def test_only_so_many_blocks_are_remembered():
    peer = server()
    for number in range(2 * limits.CACHED_BLOCKS_MAX):
        stream = 2 * number + 1
        peer.say(headers(stream, {**REQUEST, "x": str(number)}, end=True))
        peer.http.send_headers(stream, block(wire.RESPONSE), end_stream=True)
        assert len(peer.http._headers._cache) <= limits.CACHED_BLOCKS_MAX
    before = len(peer.http._headers._cache)
    peer.say(headers(9_999, {**REQUEST, "x": "y" * limits.CACHED_BLOCK_BYTES_MAX}, end=True))
    assert len(peer.http._headers._cache) == before


def test_a_short_block_that_means_much_is_not_remembered():
    """Else a client could have 64 times 16 KiB kept for it."""
    peer = server()
    peer.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(REQUEST) + b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4_000))
    assert fields_of(peer, 3, block(REQUEST) + b"\xbe\xbe")["a"] == "b" * 4_000 + ", " + "b" * 4_000
    assert not peer.http._headers._cache


BROKEN_BLOCKS = {
    "2.3.3 an index beyond the tables": b"\xff\x00",
    "6.1 index 0": b"\x80",
    "5.2 a text longer than the block": b"\x00\x01x\x7f\x20",
    "5.2 Huffman padded with zeros": b"\x00\x01x\x81\x00",
    "5.2 Huffman padded with more than 7 bits": b"\x00\x01x\x82\x1f\xff",
    "5.2 Huffman with its end inside": b"\x00\x01x\x84\xff\xff\xff\xff",
    "4.2 a table size after a field": b"\x82\x20",
    "6.3 a table size beyond the limit": b"\x3f\xe1\x7f",
    "5.1 a number that does not end": b"\x7f\x80",
    "5.1 an index of thousands of bits": b"\xff" + b"\xff" * 3_000 + b"\x01",
    "a name without a value": b"\x00\x01x",
}


@pytest.mark.parametrize("case", BROKEN_BLOCKS)
def test_a_block_that_can_not_be_read_ends_the_connection(case):
    said = frame(HEADERS, END_HEADERS, 1, BROKEN_BLOCKS[case])
    assert server().fate(said) == ("connection", COMPRESSION_ERROR)


def test_a_block_is_read_also_when_its_stream_is_not_to_be():
    """Whatever becomes of the stream, the table must follow."""
    peer = server()
    peer.say(*(headers(stream) for stream in (1, 3, 5)))
    assert peer.fate(frame(HEADERS, END_HEADERS, 7, block(REQUEST) + b"\x40\x01x\x01a")) is not None  # too many
    peer.say(wire.reset(1))
    assert fields_of(peer, 9, block(REQUEST) + b"\xbe")["x"] == "a"


@pytest.mark.parametrize("count", [1, 100])
def test_10_5_1_headers_have_a_limit_however_they_come(count):
    within = limits.HEADER_BYTES_MAX - sum(len(name) + len(value) + 32 for name, value in REQUEST.items())
    each = within // count - 32 - 4
    assert server().fate(headers(1, {**REQUEST, **{f"x{n:03}": "y" * each for n in range(count)}})) is None
    more = {**REQUEST, **{f"x{n:03}": "y" * (each + 50 // count + 1) for n in range(count)}}
    assert server().fate(headers(1, more)) == ("connection", ENHANCE_YOUR_CALM)


def test_10_5_1_a_table_that_unpacks_to_much_is_noticed():
    packed = block(REQUEST) + b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4_000 + b"\xbe" * 900
    assert server().fate(frame(HEADERS, END_HEADERS, 1, packed)) == ("connection", ENHANCE_YOUR_CALM)


@pytest.mark.parametrize("piece", [b"\xff", b"\x80", b"\x7f" + b"\xff" * 990])
def test_no_block_takes_long_to_be_refused(piece):
    """A number of 32 KiB took 80 ms; a connection that brings one is not worth that."""
    whole = (b"\x00\x7f" + piece * (32_000 // len(piece)))[:32_000]
    began = time.process_time()
    assert server().fate(
        frame(HEADERS, 0, 1, whole[:16_000]), frame(wire.CONTINUATION, END_HEADERS, 1, whole[16_000:])
    ) == ("connection", COMPRESSION_ERROR)
    assert time.process_time() - began < 0.02


@pytest.mark.parametrize("table_bytes", [0, 100, 4_095])
def test_4_2_a_peer_with_a_small_table_is_told_once_that_none_is_used(table_bytes):
    peer = server()
    peer.say(wire.settings((wire.HEADER_TABLE_SIZE, table_bytes)), headers(1, end=True), headers(3, end=True))
    peer.sent()
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = table_bytes
    for stream in (1, 3):
        peer.http.send_headers(stream, block(wire.RESPONSE), end_stream=True)
        ((_, _, _, packed),) = peer.sent()
        assert decoder.decode(packed) == [(":status", "200")]
        assert len(packed) == len(block(wire.RESPONSE)) + (stream == 1)


@pytest.mark.parametrize("table_bytes", [4_096, 10**6])
def test_4_2_a_peer_with_a_table_that_is_large_enough_is_told_nothing(table_bytes):
    peer = server()
    peer.say(wire.settings((wire.HEADER_TABLE_SIZE, table_bytes)), headers(1, end=True))
    peer.sent()
    peer.http.send_headers(1, block(wire.RESPONSE), end_stream=True)
    assert peer.sent()[0][3] == block(wire.RESPONSE)
