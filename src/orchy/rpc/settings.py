"""What the peer of an HTTP/2 connection takes (RFC 9113, section 6.5.2)."""

from __future__ import annotations

import attrs

from orchy.rpc.frames import (
    FRAME_BYTES,
    FRAME_BYTES_LIMIT,
    STREAM_ID_LIMIT,
    WINDOW_BYTES,
    WINDOW_BYTES_LIMIT,
    ErrorCode,
    ProtocolError,
    Setting,
    decode_settings,
)


@attrs.define(eq=False)
class PeerSettings:
    """What holds until the peer says otherwise, and then what it said. Its tables matter to nobody: what is sent uses
    none.
    """

    window_bytes: int = WINDOW_BYTES
    frame_bytes: int = FRAME_BYTES
    streams_max: int = STREAM_ID_LIMIT

    def take(self, payload: bytes, *, of_server: bool) -> int:
        """What a SETTINGS frame says; by how much the windows of the open streams grow. Raises ProtocolError."""
        before = self.window_bytes
        for name, value in decode_settings(payload):
            match name:
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
