"""One call on its way in: its body as it comes, and the messages in it (gRPC's PROTOCOL-HTTP2.md). Without IO."""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs
import trio

from orchy.rpc.framing import PREFIX_BYTES, Code, Status, unframe
from orchy.rpc.services import Method

MESSAGE_BYTES_MAX = 10 * 2**20
#: The most messages of a stream that wait to be taken.
INBOX_MESSAGES_MAX = 1_000


@attrs.define(eq=False)
class Allowance:
    """How many bytes of requests that were not taken yet are kept, for all connections of a server."""

    bytes_max: int = 256 * 2**20
    bytes_used: int = 0


@attrs.define(eq=False)
class Call:
    """A stream that has its headers. `end` is why its scope was cancelled, if that was not its deadline."""

    stream_id: int
    path: str
    opened_at: float
    allowance: Allowance
    method: Method | None = None
    timeout_seconds: float | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    body: bytearray = attrs.field(factory=bytearray)
    running: bool = False
    headed: bool = False
    answered: bool = False
    request_ended: bool = False
    end: Status | None = None
    window: trio.Event | None = None
    _inbox: deque[Any] = attrs.field(factory=deque)
    _readers: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    def keep(self, data: bytes) -> None:
        """Some of the body. Raises Status when it is more than may be."""
        body = self.body
        body += data
        self.allowance.bytes_used += len(data)
        announced_bytes = int.from_bytes(body[1:PREFIX_BYTES], "big") if len(body) >= PREFIX_BYTES else 0
        if announced_bytes > MESSAGE_BYTES_MAX:
            raise Status(Code.RESOURCE_EXHAUSTED, f"a message may have {MESSAGE_BYTES_MAX} bytes")
        if self.method is not None and self.method.takes_stream:
            self._cut_messages(self.method)
        elif len(body) - PREFIX_BYTES > MESSAGE_BYTES_MAX:
            raise Status(Code.RESOURCE_EXHAUSTED, f"a message may have {MESSAGE_BYTES_MAX} bytes")
        if self.allowance.bytes_used > self.allowance.bytes_max:
            raise Status(Code.UNAVAILABLE, "too much is being sent to this server, try again later")

    def _cut_messages(self, method: Method) -> None:
        """Put what is complete into the inbox."""
        body = self.body
        while len(body) >= PREFIX_BYTES:
            length = int.from_bytes(body[1:PREFIX_BYTES], "big")
            if length > MESSAGE_BYTES_MAX:
                raise Status(Code.RESOURCE_EXHAUSTED, f"a message may have {MESSAGE_BYTES_MAX} bytes")
            end = PREFIX_BYTES + length
            if len(body) < end:
                return
            message = method.parse(unframe(body[:end]))
            del body[:end]
            self.allowance.bytes_used -= end
            if len(self._inbox) >= INBOX_MESSAGES_MAX:
                raise Status(Code.RESOURCE_EXHAUSTED, "messages come faster than they are taken")
            self._inbox.append(message)
            self._readers.unpark()

    def close_request(self) -> None:
        """Nothing more is taken."""
        self.request_ended = True
        self._readers.unpark_all()

    def end_request(self) -> None:
        """Nothing more comes. Raises Status if a message was cut off."""
        self.close_request()
        if self.method is not None and self.method.takes_stream and self.body:
            raise Status(Code.INVALID_ARGUMENT, "the stream ends in the middle of a message")

    def forget_body(self) -> None:
        """The body is taken, or not wanted."""
        self.allowance.bytes_used -= len(self.body)
        self.body = bytearray()

    def __aiter__(self) -> Call:
        return self

    async def __anext__(self) -> Any:
        """The next message of a stream. Several tasks may ask: each message goes to one of them."""
        while not self._inbox:
            if self.request_ended:
                raise StopAsyncIteration
            await self._readers.park()
        return self._inbox.popleft()
