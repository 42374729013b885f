"""What is known of the streams of one HTTP/2 connection. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from orchy.rpc.http2.frames import ErrorCode, StreamError


@attrs.define(eq=False)
class Stream:
    """A stream that is open on at least one side."""

    id: int
    send_window: int
    receive_window: int
    headers_received: bool = False
    remote_ended: bool = False
    local_ended: bool = False
    bytes_expected: int | None = None  # what `content-length` promised and has not come
    held: bool = False  # its receive window is not replenished

    def receive_headers(self, fields: Mapping[str, str], *, ended: bool) -> None:
        """Headers or trailers came, and were found well. Raises StreamError."""
        if not self.headers_received:
            self.headers_received = True
            if "content-length" in fields:
                self.bytes_expected = int(fields["content-length"])
        if ended and self.bytes_expected:
            raise self._wrong_length()

    def receive_body(self, size: int, *, ended: bool) -> None:
        """Some of the body that `content-length` announced. Raises StreamError (RFC 9113, section 8.1.1)."""
        assert self.bytes_expected is not None
        self.bytes_expected -= size
        if self.bytes_expected < 0 or (ended and self.bytes_expected):
            raise self._wrong_length()

    def _wrong_length(self) -> StreamError:
        return StreamError(self.id, ErrorCode.PROTOCOL_ERROR, "the body is not as long as content-length says")


class RecentlyReset:
    """The last `ids_max` streams that we reset: late frames on them are ignored (RFC 9113, section 5.1)."""

    def __init__(self, ids_max: int) -> None:
        self._ids_max = ids_max
        self._ids: dict[int, None] = {}

    def add(self, stream_id: int) -> None:
        """Remember one; the oldest is forgotten when there are too many."""
        self._ids[stream_id] = None
        if len(self._ids) > self._ids_max:
            del self._ids[next(iter(self._ids))]

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._ids
