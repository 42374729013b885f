"""HTTP/2 frames as bytes, made by hand from RFC 9113, and both ends of the machine to feed with them. Without IO."""

from __future__ import annotations

from typing import Any

import attrs
import hpack

from orchy.rpc.http2.events import Event, Role, StreamReset
from orchy.rpc.http2.frames import ProtocolError
from orchy.rpc.http2.limits import FloodLimits, Http2Limits
from orchy.rpc.http2.machine import Http2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK, END_STREAM, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)

STREAMS_MAX = 3
STREAM_WINDOW_BYTES = 100_000
WINDOW_BYTES = 150_000
LIMITS = Http2Limits(STREAMS_MAX, STREAM_WINDOW_BYTES, WINDOW_BYTES)

REQUEST = {":method": "POST", ":scheme": "http", ":path": "/x", ":authority": "a"}
RESPONSE = {":status": "200"}


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Section 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def block(fields: dict[str, str] | list[tuple[str, str]]) -> bytes:
    """A header block that changes no table."""
    pairs = list(fields.items() if isinstance(fields, dict) else fields)
    encoder = hpack.Encoder()
    return bytes(encoder.encode([hpack.NeverIndexedHeaderTuple(*pair) for pair in pairs], huffman=False))


def headers(stream: int = 1, fields: Any = REQUEST, *, end: bool = False) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(fields))


def data(stream: int = 1, payload: bytes = b"", *, end: bool = False) -> bytes:
    return frame(DATA, END_STREAM if end else 0, stream, payload)


def settings(*pairs: tuple[int, int]) -> bytes:
    payload = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in pairs)
    return frame(SETTINGS, 0, 0, payload)


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def reset(stream: int = 1, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last_stream: int = 0, code: int = NO_ERROR) -> bytes:
    return frame(GOAWAY, 0, 0, last_stream.to_bytes(4, "big") + code.to_bytes(4, "big"))


def frames_of(sent: bytes) -> list[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of each of some frames, all of which are whole."""
    found = []
    while sent:
        length = int.from_bytes(sent[:3], "big")
        assert len(sent) >= 9 + length, "frames are sent whole"
        found.append((sent[3], sent[4], int.from_bytes(sent[5:9], "big"), sent[9 : 9 + length]))
        sent = sent[9 + length :]
    return found


def limited(**flood: int) -> Http2Limits:
    """A server's machine with flood limits that a test can reach."""
    return attrs.evolve(LIMITS, flood=FloodLimits(**flood))


class Peer:
    """Speaks to one machine: `say` frames, see what they meant, and what it `sent`."""

    def __init__(self, role: Role = Role.SERVER, limits: Http2Limits = LIMITS) -> None:
        self.http = Http2(role, limits)
        self.initial_frames = self.http.data_to_send()

    def say(self, *frames: bytes) -> list[Event]:
        return self.http.receive(b"".join(frames))

    def sent(self, *kinds: int) -> list[tuple[int, int, int, bytes]]:
        """The frames that it sent since the last time, or those of some kinds."""
        return [sent for sent in frames_of(self.http.data_to_send()) if not kinds or sent[0] in kinds]

    def fate(self, *frames: bytes) -> Any:
        """What becomes of whoever says this: ("connection", code), ("stream", id, code), or None: all is well.

        What is told to the peer must be the same as what is told to the owner.
        """
        try:
            events = self.say(*frames)
        except ProtocolError as error:
            kind, _, stream, payload = self.sent()[-1]
            assert (kind, stream) == (GOAWAY, 0)
            assert int.from_bytes(payload[4:8], "big") == error.code
            return "connection", int(error.code)
        resets = [(stream, int.from_bytes(payload, "big")) for _, _, stream, payload in self.sent(RST_STREAM)]
        for event in events:
            if isinstance(event, StreamReset) and event.error:
                assert (event.stream_id, event.code) in resets
        if resets:
            assert len(resets) == 1
            return "stream", *resets[0]
        return None


def server(limits: Http2Limits = LIMITS) -> Peer:
    """A client that has greeted the server's machine, and was greeted."""
    peer = Peer(limits=limits)
    peer.say(PREFACE, settings(), frame(SETTINGS, ACK))
    peer.sent()
    return peer


def client() -> Peer:
    """A server that has greeted the client's machine, and was greeted."""
    peer = Peer(Role.CLIENT)
    peer.say(settings(), frame(SETTINGS, ACK))
    peer.sent()
    return peer
