"""A client's connection to one server: what the worker library needs of gRPC. `http2` does the protocol.

Calls run side by side; when the connection is lost, each of them fails at once. A server that sends GOAWAY gets no new
calls, but may still answer those under way. A channel never reconnects: its owner opens a new one.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import trio
from google.protobuf.message import DecodeError

from orchy.rpc.grpc import sniffing, tls
from orchy.rpc.grpc.framing import PREFIX_BYTES, Code, Status, decode_status, frame, not_grpc, unframe
from orchy.rpc.grpc.keepalive import Keepalive
from orchy.rpc.grpc.limits import CHANNEL_LIMITS, CHANNEL_TIMING, ChannelLimits, ChannelTiming
from orchy.rpc.grpc.write_buffer import WriteBuffer
from orchy.rpc.http2.events import (
    DataReceived,
    Event,
    GoingAway,
    HeadersReceived,
    Role,
    SettingsReceived,
    StreamReset,
    WindowOpened,
)
from orchy.rpc.http2.frames import ErrorCode, ProtocolError
from orchy.rpc.http2.headers import encode_block
from orchy.rpc.http2.machine import Http2
from orchy.runtime.nurseries import open_service_nursery
from orchy.runtime.sockets import PromptStream

#: Of one read.
RECEIVE_BYTES = 64 * 1024
_GONE = "is gone"
#: What OpenSSL calls an answer that is no TLS at all.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE", "PACKET_LENGTH_TOO_LONG"})


class ConnectionLost(Exception):
    """The server is gone, or was never there. Calls under way may have been carried out."""


@attrs.define(eq=False)
class _Call:
    """One call. `changed` is set when something arrived that its caller waits for."""

    done: bool = False
    changed: trio.Event = attrs.field(factory=trio.Event)
    window_opened: trio.Event | None = None
    body: bytearray = attrs.field(factory=bytearray)
    status: Status | None = None
    lost: bool = False

    def end(self, status: Status | None = None) -> None:
        if not self.done:
            self.done = True
            self.status = status
            self.changed.set()
            if self.window_opened is not None:
                self.window_opened.set()


class Channel:
    """Made by `open_channel`."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        authority: str,
        scheme: str = "http",
        limits: ChannelLimits = CHANNEL_LIMITS,
        timing: ChannelTiming = CHANNEL_TIMING,
    ) -> None:
        self._stream = stream
        self._write_buffer = WriteBuffer(stream)
        self._limits = limits
        self._timing = timing
        self._keepalive = Keepalive(timing.ping_after_seconds, timing.ping_answer_seconds)
        self._scheme = scheme
        self._authority = authority
        self._http = Http2(Role.CLIENT, limits.http2)
        self._blocks: dict[str, bytes] = {}
        self._calls: dict[int, _Call] = {}
        self._turns = trio.CapacityLimiter(limits.calls_max)
        self._ending = trio.Event()
        self._closed = trio.Event()
        self._call_ended = trio.Event()
        self._end_reason = _GONE

    @property
    def open(self) -> bool:
        """Whether calls can be made."""
        return not self._ending.is_set()

    async def ending(self) -> None:
        """Returns when no more calls can be made; those under way may still be answered."""
        await self._ending.wait()

    async def closed(self) -> None:
        """Returns when no more calls can be made and none is under way."""
        await self._ending.wait()
        while self._calls and not self._closed.is_set():
            await self._call_ended.wait()

    async def call(self, method: str, request: Any, reply_type: Any) -> Any:
        """Call "Service/Method". Raises Status, or ConnectionLost. Cancelled, it tells the server."""
        async with self._turns:
            await self._wait_for_turn()
            with self._open_call(method) as (stream_id, call):
                await self._send(stream_id, call, frame(request.SerializeToString()), end=True)
                while not call.done:
                    await call.changed.wait()
        self._raise_failure(call)
        return _parse(reply_type, call.body)

    @asynccontextmanager
    async def stream(self, method: str, reply_type: Any) -> AsyncIterator[MessageStream]:
        """Call a "Service/Method" of streams while the block runs. Left early, it tells the server."""
        await self._wait_for_turn()
        with self._open_call(method) as (stream_id, call):
            yield MessageStream(self, stream_id, call, reply_type)

    async def _wait_for_turn(self) -> None:
        """Wait while the server takes no more streams (RFC 9113, section 5.1.2)."""
        while len(self._calls) >= self._http.peer.streams_max and self.open:
            await self._call_ended.wait()

    @contextmanager
    def _open_call(self, method: str) -> Iterator[tuple[int, _Call]]:
        """Send the headers of a call; it is reset if the block ends before it is done."""
        if not self.open:
            raise ConnectionLost(f"{self._authority} {self._end_reason}")
        try:
            stream_id = self._http.open_stream(self._block(method))
        except ProtocolError as error:
            self._ending.set()
            raise ConnectionLost(f"{self._authority} takes no more calls: {error}") from None
        call = self._calls[stream_id] = _Call()
        try:
            yield stream_id, call
        finally:
            del self._calls[stream_id]
            if not call.done or self._http.is_open(stream_id):
                self._reset(stream_id)
            self._notify_call_ended()

    def _notify_call_ended(self) -> None:
        self._call_ended.set()
        self._call_ended = trio.Event()

    def _block(self, method: str) -> bytes:
        """The encoded headers of a call; encoded once."""
        block = self._blocks.get(method)
        if block is None:
            headers = [(":method", "POST"), (":scheme", self._scheme), (":authority", self._authority)]
            headers += [(":path", f"/{method}"), ("te", "trailers"), ("content-type", "application/grpc")]
            block = self._blocks[method] = encode_block(headers)
        return block

    def _raise_failure(self, call: _Call) -> None:
        if call.lost:
            lost = f"the connection to {self._authority} was lost"
            raise ConnectionLost(lost if self._end_reason == _GONE else f"{self._authority} {self._end_reason}")
        if call.status is not None:
            raise call.status

    async def _send(self, stream_id: int, call: _Call, data: bytes, *, end: bool = False) -> None:
        sent_bytes = 0
        while sent_bytes < len(data) and not call.done:
            sendable_bytes = self._http.sendable_bytes(stream_id)
            if sendable_bytes <= 0:
                call.window_opened = trio.Event()
                self._flush()
                await call.window_opened.wait()
                continue
            part = data[sent_bytes : sent_bytes + sendable_bytes]
            sent_bytes += len(part)
            self._http.send_data(stream_id, part, end_stream=end and sent_bytes == len(data))
        self._flush()

    def _end(self, stream_id: int) -> None:
        self._http.send_data(stream_id, b"", end_stream=True)
        self._flush()

    def _reset(self, stream_id: int) -> None:
        self._http.reset(stream_id, ErrorCode.CANCEL)
        self._flush()

    def _flush(self) -> None:
        self._write_buffer.write(self._http.data_to_send(), len(self._calls))

    async def run(self) -> None:
        """Carry the calls until the connection is lost or this is cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_all, nursery.cancel_scope)
                nursery.start_soon(self._watch, nursery.cancel_scope)
                await self._read_all()
                nursery.cancel_scope.cancel()
        finally:
            self._ending.set()
            self._closed.set()
            for call in self._calls.values():
                if not call.done:
                    call.lost = True
                    call.end()
            self._call_ended.set()

    async def _read_all(self) -> None:
        self._flush()
        first: bytes | None = b""  # what arrived before it was clear that the server speaks HTTP/2
        try:
            while data := await self._stream.receive_some(RECEIVE_BYTES):
                self._keepalive.heard()
                if first is not None:
                    first += data[: sniffing.SNIFFED_BYTES_MAX]
                for event in self._http.receive(data):
                    self._take(event)
                    first = None
                self._http.reset_flood_counts()  # the server is trusted
                self._flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except ProtocolError:  # it is no gRPC server
            if first:
                first += await sniffing.read_for(self._timing.sniff_seconds, self._stream)
        if first is not None:
            self._end_reason = sniffing.describe_server(first)

    async def _watch(self, scope: trio.CancelScope) -> None:
        """End the connection when the server is gone without a word."""
        await self._keepalive.watch(self._ping)
        scope.cancel()

    def _ping(self) -> None:
        self._http.ping()
        self._flush()

    def _take(self, event: Event) -> None:
        match event:
            case DataReceived(stream_id, data, ended):
                call = self._calls.get(stream_id)
                if call and not call.done:
                    call.body += data
                    call.changed.set()
                    if len(call.body) > self._limits.reply_bytes_max:
                        too_long = f"the answer has more than {self._limits.reply_bytes_max} bytes"
                        call.end(Status(Code.RESOURCE_EXHAUSTED, too_long))
                        self._reset(stream_id)
                    elif ended:
                        call.end(decode_status({}))
            case HeadersReceived(stream_id, headers, ended):
                call = self._calls.get(stream_id)
                if call and ended:
                    call.end(decode_status(headers.fields))
                elif call and not headers.fields.get("content-type", "").startswith("application/grpc"):
                    call.end(not_grpc(headers.fields))
                    self._reset(stream_id)
            case StreamReset(stream_id):
                if call := self._calls.get(stream_id):
                    call.end(decode_status({}))
            case WindowOpened() | SettingsReceived():
                self._notify_call_ended()  # the server may take more streams now
                for call in self._calls.values():
                    if call.window_opened is not None:
                        call.window_opened.set()
            case GoingAway(last_stream_id):
                self._ending.set()
                for stream_id, call in self._calls.items():
                    if stream_id > last_stream_id:  # the server has not processed these
                        call.lost = True
                        call.end()

    async def _write_all(self, scope: trio.CancelScope) -> None:
        await self._write_buffer.run()
        scope.cancel()


class MessageStream:
    """Messages to and from a server: `send` them, iterate over the answers. Made by `Channel.stream`."""

    def __init__(self, channel: Channel, stream_id: int, call: _Call, reply_type: Any) -> None:
        self._channel = channel
        self._stream_id = stream_id
        self._call = call
        self._reply_type = reply_type
        self._replies: deque[Any] = deque()

    async def send(self, message: Any) -> None:
        """Send a message as fast as the server reads; one at a time. Nothing when the call is over."""
        await self._channel._send(self._stream_id, self._call, frame(message.SerializeToString()))

    def end(self) -> None:
        """Send END_STREAM: nothing more follows, answers may still come."""
        self._channel._end(self._stream_id)

    def __aiter__(self) -> MessageStream:
        return self

    async def __anext__(self) -> Any:
        """The next answer, until the call ends well. Raises Status, ConnectionLost."""
        while True:
            if self._replies:
                return self._replies.popleft()
            self._split_replies()
            if self._replies:
                continue
            if self._call.done:
                self._channel._raise_failure(self._call)
                if self._call.body:
                    raise Status(Code.INTERNAL, "the server's last answer was cut off")
                raise StopAsyncIteration
            self._call.changed = trio.Event()
            await self._call.changed.wait()

    def _split_replies(self) -> None:
        body = self._call.body
        at = 0
        while len(body) - at >= PREFIX_BYTES:
            end = at + PREFIX_BYTES + int.from_bytes(body[at + 1 : at + PREFIX_BYTES], "big")
            if end > len(body):
                break
            self._replies.append(_parse(self._reply_type, body[at:end]))
            at = end
        del body[:at]


def _parse(reply_type: Any, framed: bytearray) -> Any:
    try:
        return reply_type.FromString(unframe(framed))
    except (DecodeError, UnicodeDecodeError, Status):  # which are not the request's fault
        raise Status(Code.INTERNAL, "the server's answer can't be read") from None


@asynccontextmanager
async def open_channel(address: str, context: ssl.SSLContext | None = None) -> AsyncIterator[Channel]:
    """Connect to "host:port" while the block runs. Raises ConnectionLost when it can't be reached.

    With a `context`, by TLS: it says whom to trust, and is told to ask for HTTP/2.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        with trio.fail_after(CHANNEL_TIMING.connect_seconds):
            socket = PromptStream(await trio.open_tcp_stream(host, int(port)))
    except (OSError, ValueError, OverflowError, trio.TooSlowError) as error:
        raise ConnectionLost(f"{address} can't be reached: {_reason(error)}") from None
    try:
        stream = await _shake_hands(socket, context, host, address) if context else socket
        channel = Channel(stream, address, "https" if context else "http")
        async with open_service_nursery() as nursery:
            nursery.start_soon(channel.run)
            yield channel
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(socket)


async def _shake_hands(socket: trio.abc.Stream, context: ssl.SSLContext, host: str, address: str) -> trio.abc.Stream:
    try:
        with trio.fail_after(CHANNEL_TIMING.connect_seconds):
            stream = await tls.connect(socket, context, host)
    except (trio.BrokenResourceError, trio.TooSlowError) as error:
        reason = error.__cause__ or "it does not answer"
        if isinstance(reason, ssl.SSLError) and reason.reason in _NOT_TLS:
            raise ConnectionLost(f"{address} {sniffing.SPEAKS_NO_TLS}") from None
        hint = "" if isinstance(reason, ssl.SSLCertVerificationError) else f"; {sniffing.WORKERS_PORT}"
        raise ConnectionLost(f"there is no TLS with {address}: {reason}{hint}") from None
    if stream is None:
        raise ConnectionLost(f"{address} {sniffing.SPEAKS_NO_HTTP2}")
    return stream


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or "it does not answer"
