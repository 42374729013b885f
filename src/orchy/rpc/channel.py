"""A client's connection to one server, for unary calls: what the worker library needs of gRPC. h2 keeps the protocol.

Calls run side by side; when the connection is lost, each of them fails at once. A server that announces its end gets
no new calls, but may still answer those under way. A connection is not made again: its owner opens a new one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import h2.config
import h2.events
import h2.exceptions
import trio
from google.protobuf.message import DecodeError
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings

from orchy.rpc.framing import Code, Status, decode_message, frame, unframe
from orchy.rpc.http2 import HEADERS_AS_THEY_ARE, Http2Connection
from orchy.tasks import open_service_nursery

RECEIVE_BYTES = 64 * 1024
CONNECT_SECONDS = 5.0
WINDOW_BYTES = 4 * 2**20
REPLY_BYTES_MAX = 64 * 2**20
#: Calls at the same time; the others wait for their turn.
CALLS_MAX = 500
PING_AFTER_SECONDS = 30.0
PING_ANSWER_SECONDS = 10.0


class ConnectionLost(Exception):
    """The server is gone, or was never there. A call under way may have been carried out."""


@attrs.define(eq=False)
class _Call:
    done: trio.Event = attrs.field(factory=trio.Event)
    window: trio.Event = attrs.field(factory=trio.Event)
    body: bytearray = attrs.field(factory=bytearray)
    status: Status | None = None
    lost: bool = False

    def end(self, status: Status | None = None) -> None:
        if not self.done.is_set():
            self.status = status
            self.done.set()
            self.window.set()


class Channel:
    """Made by `open_channel`."""

    def __init__(self, stream: trio.abc.Stream, authority: str) -> None:
        self._stream = stream
        self._authority = authority
        self._http = Http2Connection(h2.config.H2Configuration(client_side=True, **HEADERS_AS_THEY_ARE))
        self._http.local_settings = Settings(
            client=True, initial_values={SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES}
        )
        self._http.initiate_connection()
        self._http.increment_flow_control_window(WINDOW_BYTES)
        self._calls: dict[int, _Call] = {}
        self._turns = trio.CapacityLimiter(CALLS_MAX)
        self._to_write = trio.Event()
        self._ending = trio.Event()
        self._closed = trio.Event()
        self._call_ended = trio.Event()

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
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", self._authority),
            (":path", f"/{method}"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
        call = _Call()
        async with self._turns:
            if not self.open:
                raise ConnectionLost(f"{self._authority} is gone")
            try:
                stream_id = self._http.get_next_available_stream_id()
                self._http.send_headers(stream_id, headers)
            except h2.exceptions.ProtocolError as error:
                self._ending.set()
                raise ConnectionLost(f"{self._authority} takes no more calls: {error}") from None
            self._calls[stream_id] = call
            try:
                await self._send(stream_id, call, frame(request.SerializeToString()))
                await call.done.wait()
            except h2.exceptions.ProtocolError as error:
                raise ConnectionLost(f"a call to {self._authority} was broken off: {error}") from None
            finally:
                del self._calls[stream_id]
                if not call.done.is_set():
                    self._reset(stream_id)
                self._call_ended.set()
                self._call_ended = trio.Event()
        if call.lost:
            raise ConnectionLost(f"the connection to {self._authority} was lost")
        if call.status is not None:
            raise call.status
        try:
            return reply_type.FromString(unframe(call.body))
        except (DecodeError, UnicodeDecodeError):
            raise Status(Code.INTERNAL, "the server's answer can't be read") from None

    async def _send(self, stream_id: int, call: _Call, data: bytes) -> None:
        sent_bytes = 0
        while sent_bytes < len(data) and not call.done.is_set():
            room = min(self._http.local_flow_control_window(stream_id), self._http.max_outbound_frame_size)
            if room <= 0:
                call.window = trio.Event()
                self._to_write.set()
                await call.window.wait()
                continue
            part = data[sent_bytes : sent_bytes + room]
            sent_bytes += len(part)
            self._http.send_data(stream_id, part, end_stream=sent_bytes == len(data))
        self._to_write.set()

    def _reset(self, stream_id: int) -> None:
        try:
            self._http.reset_stream(stream_id, ErrorCodes.CANCEL)
            self._to_write.set()
        except h2.exceptions.ProtocolError:
            pass  # it is closed

    async def run(self) -> None:
        """Carry the calls until the connection is lost or this is cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_all)
                await self._read_all()
                nursery.cancel_scope.cancel()
        finally:
            self._ending.set()
            self._closed.set()
            for call in self._calls.values():
                if not call.done.is_set():
                    call.lost = True
                    call.end()
            self._call_ended.set()

    async def _read_all(self) -> None:
        pinged = False
        while True:
            data: bytes | bytearray | None = None
            try:
                with trio.move_on_after(PING_ANSWER_SECONDS if pinged else PING_AFTER_SECONDS):
                    data = await self._stream.receive_some(RECEIVE_BYTES)
                if data is None:
                    if pinged:
                        return
                    pinged = True
                    self._http.ping(b"orchy-ok")
                elif not data:
                    return
                else:
                    pinged = False
                    for event in self._http.receive_data(bytes(data)):
                        self._take(event)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            except (h2.exceptions.ProtocolError, UnicodeDecodeError):
                return  # whoever that is, it is no gRPC server
            self._to_write.set()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.DataReceived():
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if call := self._calls.get(event.stream_id):
                    call.body += event.data
                    if len(call.body) > REPLY_BYTES_MAX:
                        call.end(Status(Code.RESOURCE_EXHAUSTED, f"the answer has more than {REPLY_BYTES_MAX} bytes"))
                        self._reset(event.stream_id)
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                headers = dict(event.headers)
                call = self._calls.get(event.stream_id)
                if call and "grpc-status" in headers:
                    call.end(_status_of(headers["grpc-status"], headers.get("grpc-message", "")))
            case h2.events.StreamEnded() | h2.events.StreamReset():
                if call := self._calls.get(event.stream_id):
                    call.end(Status(Code.UNAVAILABLE, "the server ended the call without a status"))
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                for call in self._calls.values():
                    call.window.set()
            case h2.events.ConnectionTerminated():
                self._ending.set()
                for stream_id, call in self._calls.items():
                    if stream_id > event.last_stream_id:  # the server never saw these
                        call.lost = True
                        call.end()
            case _:
                pass

    async def _write_all(self) -> None:
        while True:
            await self._to_write.wait()
            self._to_write = trio.Event()
            data = self._http.data_to_send()
            if data:
                try:
                    await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return


def _status_of(code: str, message: str) -> Status | None:
    """What a `grpc-status` says; None: all is well."""
    number = int(code) if code.isascii() and code.isdigit() else int(Code.UNKNOWN)
    if number == Code.OK:
        return None
    return Status(Code(number) if number in set(Code) else Code.UNKNOWN, decode_message(message))


@asynccontextmanager
async def open_channel(address: str) -> AsyncIterator[Channel]:
    """Connect to "host:port" while the block runs. Raises ConnectionLost when nobody is there."""
    host, _, port = address.rpartition(":")
    try:
        with trio.fail_after(CONNECT_SECONDS):
            stream = await trio.open_tcp_stream(host.strip("[]"), int(port))
    except (OSError, ValueError, OverflowError, trio.TooSlowError) as error:
        raise ConnectionLost(f"{address} can't be reached: {_reason(error)}") from None
    channel = Channel(stream, address)
    try:
        async with open_service_nursery() as nursery:
            nursery.start_soon(channel.run)
            yield channel
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or "it does not answer"
