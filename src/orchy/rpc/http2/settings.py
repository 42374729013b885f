"""The settings of both sides of an HTTP/2 connection (RFC 9113, section 6.5.2)."""

from __future__ import annotations

import attrs

from orchy.rpc.http2.frames import (
    FRAME_BYTES,
    FRAME_BYTES_LIMIT,
    PREFACE,
    STREAM_ID_LIMIT,
    TABLE_BYTES,
    WINDOW_BYTES,
    WINDOW_BYTES_LIMIT,
    ErrorCode,
    ProtocolError,
    Setting,
    decode_settings,
    encode_settings,
    encode_window_update,
)
from orchy.rpc.http2.headers import HEADER_BYTES_MAX
from orchy.rpc.http2.limits import Http2Limits


def initial_frames(limits: Http2Limits, *, is_server: bool) -> bytes:
    """What is sent first: the preface (of a client), our settings, and the window of all streams."""
    settings = {
        Setting.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
        Setting.MAX_HEADER_LIST_SIZE: HEADER_BYTES_MAX,
    }
    if is_server:
        settings[Setting.MAX_CONCURRENT_STREAMS] = limits.streams_max
    else:
        settings[Setting.ENABLE_PUSH] = 0
    increment = limits.window_bytes - WINDOW_BYTES
    update = encode_window_update(0, increment) if increment > 0 else b""
    return (b"" if is_server else PREFACE) + encode_settings(settings) + update


@attrs.define(eq=False)
class PeerSettings:
    """The peer's settings; the defaults hold until it sends some.

    We use no header table; but a peer that shrinks it must be told that we know (RFC 7541, section 4.2), so
    `shrinks_table` is kept.
    """

    window_bytes: int = WINDOW_BYTES
    frame_bytes: int = FRAME_BYTES
    streams_max: int = STREAM_ID_LIMIT
    shrinks_table: bool = False

    def take(self, payload: bytes, *, of_server: bool) -> int:
        """Apply a SETTINGS frame; by how much the windows of open streams grow. Raises ProtocolError."""
        before = self.window_bytes
        for name, value in decode_settings(payload):
            match name:
                case Setting.HEADER_TABLE_SIZE:
                    self.shrinks_table |= value < TABLE_BYTES
                case Setting.ENABLE_PUSH if value > 1 or (value and of_server):
                    raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH can't be {value}")
                case Setting.INITIAL_WINDOW_SIZE:
                    if value > WINDOW_BYTES_LIMIT:
                        raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "an initial window that is too large")
                    self.window_bytes = value
                case Setting.MAX_FRAME_SIZE:
                    if not FRAME_BYTES <= value <= FRAME_BYTES_LIMIT:
                        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE can't be {value}")
                    self.frame_bytes = value
                case Setting.MAX_CONCURRENT_STREAMS:
                    self.streams_max = value
                case _:
                    pass
        return self.window_bytes - before
