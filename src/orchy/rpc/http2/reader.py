"""Bytes to frames (RFC 9113, section 4), header blocks whole. Without IO."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from orchy.rpc.http2.frames import (
    FRAME_BYTES,
    HEAD,
    PREFACE,
    STREAM_ID_LIMIT,
    ErrorCode,
    Flag,
    Kind,
    NotHttp2,
    ProtocolError,
    decode_number,
    unpad,
)
from orchy.rpc.http2.headers import HEADER_BYTES_MAX

#: A header block on the wire, and the frames that it comes in after the first (CVE-2024-27316).
BLOCK_BYTES_MAX: Final = 2 * HEADER_BYTES_MAX
CONTINUATIONS_MAX: Final = 8
#: So many bytes are shown of what is not a preface.
FIRST_BYTES_SHOWN: Final = 64
#: Passed on with the flags of HEADERS, which have 8 bits: its priority makes the stream depend on itself.
DEPENDS_ON_ITSELF: Final = 0x100

#: Kind, flags, stream, payload.
Frame: TypeAlias = tuple[int, int, int, bytes]


class FrameReader:
    """Splits what arrives into frames. HEADERS are whole: without padding and priority, CONTINUATIONs joined."""

    def __init__(self, *, expects_preface: bool) -> None:
        self._preface_left = PREFACE if expects_preface else b""
        self._buffer = bytearray()
        self._block: tuple[int, int, bytearray] | None = None  # flags, stream, what has come of it
        self._continuations = 0
        self._settings_received = False

    @property
    def preface_received(self) -> bool:
        """Whether the preface has come, if one is expected."""
        return not self._preface_left

    def read(self, data: bytes | bytearray) -> Iterator[Frame]:
        """The frames that are complete now. Raises ProtocolError; for a frame that is too large, on its head alone.

        A generator, so that the first error on the connection is the one that counts.
        """
        buffer = self._buffer
        buffer += data
        at = self._take_preface() if self._preface_left else 0
        while len(buffer) - at >= HEAD.size:
            high, low, kind, flags, stream_id = HEAD.unpack_from(buffer, at)
            length = high << 8 | low
            if length > FRAME_BYTES:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            end = at + HEAD.size + length
            if end > len(buffer):
                break
            frame = (kind, flags, stream_id & STREAM_ID_LIMIT, bytes(buffer[at + HEAD.size : end]))
            at = end
            if (
                kind == Kind.HEADERS
                or kind == Kind.CONTINUATION
                or self._block is not None
                or not self._settings_received
            ):
                whole = self._assemble(*frame)
                if whole is None:
                    continue
                frame = whole
            yield frame
        del buffer[:at]

    def _take_preface(self) -> int:
        """How many bytes of the preface are in the buffer. Raises NotHttp2."""
        got = min(len(self._buffer), len(self._preface_left))
        if self._buffer[:got] != self._preface_left[:got]:
            begun = PREFACE[: len(PREFACE) - len(self._preface_left)]
            raise NotHttp2(begun + bytes(self._buffer[:FIRST_BYTES_SHOWN]))
        self._preface_left = self._preface_left[got:]
        return got

    def _assemble(self, kind: int, flags: int, stream_id: int, payload: bytes) -> Frame | None:
        """Join header blocks, and insist on SETTINGS first; None while a block is not whole."""
        if not self._settings_received:
            if kind != Kind.SETTINGS or flags & Flag.ACK:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._settings_received = True
        if self._block is None:
            if kind == Kind.CONTINUATION:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
            if kind != Kind.HEADERS:
                return kind, flags, stream_id, payload
            flags, block = _block_of(flags, stream_id, payload)
            if flags & Flag.END_HEADERS:
                return kind, flags, stream_id, block
            self._block = (flags, stream_id, bytearray(block))
            self._continuations = 0
            return None
        first_flags, first_stream_id, begun = self._block
        if kind != Kind.CONTINUATION or stream_id != first_stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a header block was not finished")
        begun += payload
        self._continuations += 1
        if len(begun) > BLOCK_BYTES_MAX or self._continuations > CONTINUATIONS_MAX:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "a header block that is too long")
        if not flags & Flag.END_HEADERS:
            return None
        self._block = None
        return Kind.HEADERS, first_flags, stream_id, bytes(begun)


def _block_of(flags: int, stream_id: int, payload: bytes) -> tuple[int, bytes]:
    """The flags of HEADERS, and the part of a header block in it (section 6.2)."""
    if not stream_id:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
    block = unpad(flags, payload)
    if flags & Flag.PRIORITY:
        if len(block) < 5:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for their priority")
        if decode_number(block) == stream_id:
            flags |= DEPENDS_ON_ITSELF
        block = block[5:]
    return flags, block
