"""What is known of the streams of one HTTP/2 connection. Pure."""

from __future__ import annotations

from typing import Final

import attrs

#: Streams that were reset here, whose frames may still be on their way.
RESET_STREAMS_REMEMBERED: Final = 1_000


@attrs.define(eq=False)
class Stream:
    """A stream that is open on at least one side."""

    send_window: int
    receive_window: int
    headers_received: bool = False  # its first headers have come
    remote_ended: bool = False
    local_ended: bool = False
    bytes_expected: int | None = None  # what `content-length` promised and has not come
    held: bool = False  # its receive window is not given back


class RecentlyReset:
    """Those that were reset here last: what still comes on them is ignored (RFC 9113, section 5.1)."""

    def __init__(self) -> None:
        self._ids: dict[int, None] = {}

    def add(self, stream_id: int) -> None:
        """Remember one, and forget the oldest when there are too many."""
        self._ids[stream_id] = None
        if len(self._ids) > RESET_STREAMS_REMEMBERED:
            del self._ids[next(iter(self._ids))]

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._ids
