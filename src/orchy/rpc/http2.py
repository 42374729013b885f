"""h2's connection, taught that a GOAWAY announces an end and is not one (RFC 9113, 6.8), and not to wait for a frame
that is larger than any may be.

h2 takes a GOAWAY, sent or received, for the end: calls under way can be neither answered nor heard of any more, and
what waits to be sent is thrown away. Here, one without an error leaves the streams that are open as they are.

h2 looks at a frame's length when all of it is there: a peer could have it keep 16 MiB a connection.

Relies on inner parts of h2 3.2, the last version that purerpc can be installed with.
"""

from __future__ import annotations

from typing import Any, Final

import h2.connection
import h2.events
from h2.errors import ErrorCodes
from h2.exceptions import FrameTooLargeError
from hyperframe.frame import GoAwayFrame

#: Text, and no look at what we send ourselves: our headers are lower-case and in order. What comes in is checked.
HEADERS_AS_THEY_ARE: Final[dict[str, Any]] = {
    "header_encoding": "utf-8",
    "validate_outbound_headers": False,
    "normalize_outbound_headers": False,
}


#: Of a frame's head (RFC 9113, section 4.1).
LENGTH_BYTES = 3


class Http2Connection(h2.connection.H2Connection):  # type: ignore[misc]
    """An `H2Connection` whose calls under way outlive an orderly GOAWAY."""

    def announce_end(self) -> None:
        """Queue a GOAWAY: streams that the peer opens from now on are not served, those that are open are."""
        frame = GoAwayFrame(
            stream_id=0, last_stream_id=self.highest_inbound_stream_id, error_code=int(ErrorCodes.NO_ERROR)
        )
        self._prepare_for_sending([frame])

    def receive_data(self, data: bytes) -> list[h2.events.Event]:
        """Raises FrameTooLargeError as soon as a frame says that it is."""
        events: list[h2.events.Event] = super().receive_data(data)
        begun = self.incoming_buffer.data
        if len(begun) >= LENGTH_BYTES and int.from_bytes(begun[:LENGTH_BYTES], "big") > self.max_inbound_frame_size:
            self._terminate_connection(ErrorCodes.FRAME_SIZE_ERROR)
            raise FrameTooLargeError("a frame that is longer than frames may be")
        return events

    def _receive_goaway_frame(self, frame: Any) -> Any:
        if frame.error_code != ErrorCodes.NO_ERROR:
            return super()._receive_goaway_frame(frame)
        event = h2.events.ConnectionTerminated()
        event.error_code = ErrorCodes.NO_ERROR
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data or None
        return [], [event]
