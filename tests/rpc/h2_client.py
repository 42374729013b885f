"""Somebody else's HTTP/2, h2's, as the other side of ours; taught that a GOAWAY announces an end and is not one
(RFC 9113, section 6.8): h2 would neither answer nor hear of the calls under way.
"""

from __future__ import annotations

from typing import Any

import h2.connection
import h2.events
from h2.errors import ErrorCodes


class H2Client(h2.connection.H2Connection):
    """An `H2Connection` whose calls under way outlive an orderly GOAWAY."""

    def _receive_goaway_frame(self, frame: Any) -> Any:
        if frame.error_code != ErrorCodes.NO_ERROR:
            return super()._receive_goaway_frame(frame)
        event = h2.events.ConnectionTerminated()
        event.error_code = ErrorCodes.NO_ERROR
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data or None
        return [], [event]
