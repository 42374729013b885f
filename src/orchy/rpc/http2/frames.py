"""HTTP/2 frames as bytes (RFC 9113, sections 4 and 6): constants, errors, encoding and decoding. Pure."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

#: A client sends it first (section 3.4).
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: A frame's head: length (16 and 8 bits of it), type, flags, stream.
HEAD: Final = struct.Struct(">HBBBL")
#: The largest payload, unless the peer's settings allow more.
FRAME_BYTES: Final = 16_384
FRAME_BYTES_LIMIT: Final = 2**24 - 1
WINDOW_BYTES: Final = 65_535
WINDOW_BYTES_LIMIT: Final = 2**31 - 1
STREAM_ID_LIMIT: Final = 2**31 - 1
#: Of one setting in a SETTINGS frame.
SETTING_BYTES: Final = 6
#: The header table of each side, unless the peer's settings say otherwise.
TABLE_BYTES: Final = 4_096


class Kind(IntEnum):
    """Frame types."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(IntEnum):
    """Flags; ACK has the bit of END_STREAM, on other frames."""

    ACK = 0x1
    END_STREAM = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class Setting(IntEnum):
    """Settings (section 6.5.2)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """Error codes (section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ProtocolError(Exception):
    """The peer broke the protocol so that the connection must end (section 5.4.1)."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotHttp2(ProtocolError):
    """The client does not speak HTTP/2; `first` is what it sent."""

    def __init__(self, first: bytes) -> None:
        super().__init__(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
        self.first = first


class StreamError(Exception):
    """The peer broke the protocol so that one stream must end (section 5.4.2)."""

    def __init__(self, stream_id: int, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.stream_id = stream_id
        self.code = code


def encode_frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Any frame."""
    length = len(payload)
    return HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id) + payload


def encode_headers(stream_id: int, block: bytes, *, end_stream: bool, frame_bytes: int = FRAME_BYTES) -> bytes:
    """A header block as HEADERS, and CONTINUATIONs if one frame can't hold it."""
    flags = Flag.END_STREAM if end_stream else 0
    if len(block) <= frame_bytes:
        return encode_frame(Kind.HEADERS, flags | Flag.END_HEADERS, stream_id, block)
    parts = [block[at : at + frame_bytes] for at in range(0, len(block), frame_bytes)]
    frames = [encode_frame(Kind.HEADERS, flags, stream_id, parts[0])]
    frames += [encode_frame(Kind.CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
    frames.append(encode_frame(Kind.CONTINUATION, Flag.END_HEADERS, stream_id, parts[-1]))
    return b"".join(frames)


def encode_data(stream_id: int, data: bytes, *, end_stream: bool, frame_bytes: int = FRAME_BYTES) -> bytes:
    """Some of a body as one DATA frame, or as many as it takes."""
    last = Flag.END_STREAM if end_stream else 0
    if len(data) <= frame_bytes:
        return encode_frame(Kind.DATA, last, stream_id, data)
    cuts = range(0, len(data), frame_bytes)
    parts = [encode_frame(Kind.DATA, 0, stream_id, data[at : at + frame_bytes]) for at in cuts[:-1]]
    return b"".join([*parts, encode_frame(Kind.DATA, last, stream_id, data[cuts[-1] :])])


def encode_settings(settings: dict[Setting, int]) -> bytes:
    """SETTINGS that are to be acknowledged."""
    payload = b"".join(struct.pack(">HL", name, value) for name, value in settings.items())
    return encode_frame(Kind.SETTINGS, 0, 0, payload)


def decode_settings(payload: bytes) -> list[tuple[int, int]]:
    """(number, value) of each setting, unknown ones included. Raises ProtocolError."""
    if len(payload) % SETTING_BYTES:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
    return list(struct.iter_unpack(">HL", payload))


def encode_window_update(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE: so many more bytes may be sent."""
    return encode_frame(Kind.WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def encode_reset(stream_id: int, code: ErrorCode) -> bytes:
    """RST_STREAM."""
    return encode_frame(Kind.RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def encode_goaway(last_stream_id: int, code: ErrorCode, text: bytes = b"") -> bytes:
    """GOAWAY: streams up to `last_stream_id` may have been acted on; `text` helps whoever debugs the peer."""
    return encode_frame(Kind.GOAWAY, 0, 0, struct.pack(">LL", last_stream_id, code) + text)


def decode_number(payload: bytes) -> int:
    """The 31 bits of a window increment or a stream id."""
    return int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF


def unpad(flags: int, payload: bytes) -> bytes:
    """The payload without its padding. Raises ProtocolError (section 6.1)."""
    if not flags & Flag.PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - payload[0]]
