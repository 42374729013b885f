"""One call on the server: its body as it arrives, and the messages in it (gRPC's PROTOCOL-HTTP2.md). Without IO."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import trio

from orchy.rpc.grpc.framing import PREFIX_BYTES, Code, Status, unframe
from orchy.rpc.grpc.services import Method

MESSAGE_BYTES_MAX = 10 * 2**20
#: When so much of a stream is unread, its window is held until half of it is read.
UNREAD_BYTES_MAX = 256 * 1024
#: Messages that a handler may read before other tasks have their turn.
MESSAGES_IN_A_ROW = 32


@attrs.define(eq=False)
class BufferQuota:
    """How many bytes of unread requests are kept: for one connection and, as its `parent`, for all."""

    bytes_max: int = 256 * 2**20
    bytes_used: int = 0
    parent: BufferQuota | None = None

    def add(self, size_bytes: int) -> None:
        """So many more are kept; negative: fewer."""
        self.bytes_used += size_bytes
        if self.parent is not None:
            self.parent.add(size_bytes)

    @property
    def exceeded(self) -> bool:
        """Whether too many are kept."""
        return self.bytes_used > self.bytes_max or (self.parent is not None and self.parent.exceeded)


@attrs.define(eq=False)
class Call:
    """A stream that has its headers. `end` is why its scope was cancelled, if that was not its deadline.
    `hold_window(True)` withholds window updates, `hold_window(False)` sends them again.
    """

    stream_id: int
    path: str
    opened_at: float
    quota: BufferQuota
    hold_window: Callable[[bool], None]
    method: Method | None = None
    timeout_seconds: float | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    body: bytearray = attrs.field(factory=bytearray)
    running: bool = False
    headers_sent: bool = False
    answered: bool = False
    request_ended: bool = False
    end: Status | None = None
    window_opened: trio.Event | None = None
    _whole_bytes: int = 0  # complete messages of a stream, in the body
    _tail_began_at: float | None = None  # when the message after them began to arrive
    _held: bool = False
    _messages_in_a_row: int = 0
    _readers: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    def add_data(self, data: bytes) -> None:
        """Some of the body arrived. Raises Status when it is too much."""
        body = self.body
        body += data
        self.quota.add(len(data))
        if self.method is not None and self.method.takes_stream:
            self._find_messages()
        elif max(_message_bytes(body, 0), len(body) - PREFIX_BYTES) > MESSAGE_BYTES_MAX:
            raise _too_long()
        if self.quota.exceeded:
            raise Status(Code.UNAVAILABLE, "too much is being sent to this server, try again later")

    def _find_messages(self) -> None:
        """Find the messages that are complete now, and wake their readers."""
        body = self.body
        before_bytes = self._whole_bytes
        while (length := _message_bytes(body, self._whole_bytes)) >= 0:
            if length > MESSAGE_BYTES_MAX:
                raise _too_long()
            end = self._whole_bytes + PREFIX_BYTES + length
            if len(body) < end:
                break
            self._whole_bytes = end
            self._readers.unpark()
        if len(body) == self._whole_bytes:
            self._tail_began_at = None
        elif self._tail_began_at is None or self._whole_bytes > before_bytes:
            self._tail_began_at = trio.current_time()
        if not self._held and self._whole_bytes > UNREAD_BYTES_MAX:
            self._held = True
            self.hold_window(True)

    @property
    def unfinished_since(self) -> float | None:
        """Since when a request, or a message of a stream, has been arriving; None: none is, or we hold it up."""
        if not self.running:
            return self.opened_at
        return None if self._held else self._tail_began_at

    def fail(self, status: Status) -> None:
        """Cancel the handler, and then end the call with a status."""
        self.end = self.end or status
        self.scope.cancel()

    def close_request(self) -> None:
        """Read nothing more."""
        self.request_ended = True
        self._readers.unpark_all()

    def end_request(self) -> None:
        """The client has sent all. Raises Status if a message was cut off."""
        self.close_request()
        if self.method is not None and self.method.takes_stream and len(self.body) > self._whole_bytes:
            raise Status(Code.INVALID_ARGUMENT, "the stream ends in the middle of a message")

    def discard_body(self) -> None:
        """Drop the body: it was parsed, or is not wanted."""
        self.quota.add(-len(self.body))
        self.body = bytearray()
        self._whole_bytes = 0

    def __aiter__(self) -> Call:
        return self

    async def __anext__(self) -> Any:
        """The next message of a stream; one that can't be parsed ends it, and the call.

        Several tasks may iterate: each message goes to one of them.
        """
        self._messages_in_a_row += 1
        if self._messages_in_a_row > MESSAGES_IN_A_ROW:
            self._messages_in_a_row = 0
            await trio.lowlevel.checkpoint()
        while not self._whole_bytes:
            if self.request_ended:
                raise StopAsyncIteration
            self._messages_in_a_row = 0
            await self._readers.park()
        try:
            return self._take_message()
        except Status as status:
            self.fail(status)
            raise StopAsyncIteration from None

    def _take_message(self) -> Any:
        assert self.method is not None
        end = PREFIX_BYTES + _message_bytes(self.body, 0)
        message = self.method.parse(unframe(self.body[:end]))
        del self.body[:end]
        self._whole_bytes -= end
        self.quota.add(-end)
        if self._held and self._whole_bytes <= UNREAD_BYTES_MAX // 2:
            self._held = False
            if self._tail_began_at is not None:
                self._tail_began_at = trio.current_time()
            self.hold_window(False)
        return message


def _too_long() -> Status:
    return Status(Code.RESOURCE_EXHAUSTED, f"a message may have {MESSAGE_BYTES_MAX} bytes")


def _message_bytes(body: bytearray, at: int) -> int:
    """The length of the message that begins at `at`; -1: its prefix is not complete."""
    return int.from_bytes(body[at + 1 : at + PREFIX_BYTES], "big") if len(body) - at >= PREFIX_BYTES else -1
