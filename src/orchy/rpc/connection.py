"""One client's HTTP/2 connection: calls in, answers out. h2 keeps the protocol, purerpc's services say what there is.

What a client can't do: keep a call running that it has cancelled or whose deadline is over (the handler is
cancelled), have a call wait for ever (a compressed or oversized message is answered at once), or make the server
keep more than it may (connections, streams, message sizes and unsent bytes have limits, and so has the number of
streams that it opens only to reset them). A connection that does not begin as HTTP/2 in time is closed; one on which
nothing arrives is pinged, and closed when the ping is not answered.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import attrs
import h2.config
import h2.events
import h2.exceptions
import trio
from google.protobuf.message import DecodeError
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from purerpc import Service
from purerpc.rpc import Cardinality

from orchy.rpc.framing import PREFIX_BYTES, Code, Status, encode_message, frame, parse_timeout, unframe
from orchy.rpc.http2 import HEADERS_AS_THEY_ARE, Http2Connection

RECEIVE_BYTES = 64 * 1024
SEND_BYTES = 64 * 1024
STREAMS_MAX = 1_000
MESSAGE_BYTES_MAX = 10 * 2**20
WINDOW_BYTES = 2**20
HEADER_BYTES_MAX = 16 * 1024
#: Reading stops, and so do answers, while this much waits to be written.
UNSENT_BYTES_MAX = 2 * 2**20
#: A client that resets more streams, or sends more pings and settings, than this within the time below is told to calm
#: down (CVE-2023-44487, CVE-2019-9512, CVE-2019-9515).
RESETS_MAX = 2_000
PINGS_MAX = 20_000
FLOOD_SECONDS = 10.0
#: How long a client may take to say that it speaks HTTP/2.
HANDSHAKE_SECONDS = 10.0
#: How long a request may take to arrive in whole; looked at when something arrives, or at each ping.
REQUEST_SECONDS = 60.0
PING_AFTER_SECONDS = 60.0
PING_ANSWER_SECONDS = 20.0
#: How long a client may leave SEND_BYTES unread.
SEND_SECONDS = 60.0
GOODBYE_SECONDS = 1.0
PATH_CHARACTERS_SHOWN = 200

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class Allowance:
    """How many bytes of requests that have not arrived in whole are kept, for all connections of a server."""

    bytes_max: int = 256 * 2**20
    bytes_used: int = 0


@attrs.define(eq=False)
class _Call:
    """A stream that has its headers. `end` is why its scope was cancelled, if that was not its deadline."""

    stream_id: int
    path: str
    opened_at: float
    timeout_seconds: float | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    body: bytearray = attrs.field(factory=bytearray)
    running: bool = False
    streaming: bool = False
    headed: bool = False
    answered: bool = False
    end: Status | None = None
    window: trio.Event = attrs.field(factory=trio.Event)


class Connection:
    """Serves one stream of bytes. `drain` lets the calls under way end and takes no more."""

    def __init__(self, stream: trio.abc.Stream, services: Mapping[str, Service], allowance: Allowance) -> None:
        self._stream = stream
        self._services = services
        self._allowance = allowance
        self._http = Http2Connection(h2.config.H2Configuration(client_side=False, **HEADERS_AS_THEY_ARE))
        self._calls: dict[int, _Call] = {}
        self._unsent = bytearray()
        self._to_write = trio.Event()
        self._written = trio.Event()
        self._greeted = False
        self._resets = 0
        self._pings = 0
        self._counted_since = 0.0
        self._looked_at = 0.0
        self._draining = False
        self._quiet = trio.Event()
        self._over = False
        self._scope = trio.CancelScope()

    async def serve(self) -> None:
        """Until the client is gone or breaks the protocol, or `close`."""
        self._http.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS_MAX,
                SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
                SettingCodes.MAX_HEADER_LIST_SIZE: HEADER_BYTES_MAX,
            },
        )
        self._http.initiate_connection()
        self._http.increment_flow_control_window(4 * WINDOW_BYTES)
        self._flush()
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write_all)
                    await self._read_all(nursery)
                    self._scope.cancel()
        finally:
            for call in list(self._calls.values()):
                self._close(call)
            self._over = True
            self._quiet.set()
            self._written.set()

    def drain(self) -> None:
        """Take no more calls, and end those that would never end by themselves."""
        if not self._draining:
            self._draining = True
            self._http.announce_end()
            self._flush()
            for call in self._calls.values():
                if call.streaming:
                    call.end = Status(Code.UNAVAILABLE, "this server is about to stop")
                    call.scope.cancel()
            self._note_quiet()

    async def quiet(self) -> None:
        """Returns when no call is under way after `drain`, and all is written; or when the client is gone."""
        await self._quiet.wait()
        while self._unsent and not self._over:
            await self._written.wait()

    def close(self) -> None:
        """End at once."""
        self._scope.cancel()

    # In.

    async def _read_all(self, nursery: trio.Nursery) -> None:
        greet_until = trio.current_time() + HANDSHAKE_SECONDS
        pinged = False
        while True:
            quiet_until = trio.current_time() + (PING_ANSWER_SECONDS if pinged else PING_AFTER_SECONDS)
            data: bytes | bytearray | None = None
            try:
                with trio.move_on_at(quiet_until if self._greeted else greet_until):
                    data = await self._stream.receive_some(RECEIVE_BYTES)
                if data is None:
                    if pinged or not self._greeted:
                        return  # half-open, or never was a client of ours
                    self._http.ping(b"orchy-ok")
                    pinged = True
                elif not data:
                    return
                else:
                    pinged = False
                    for event in self._http.receive_data(bytes(data)):
                        self._take(event, nursery)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            except (h2.exceptions.ProtocolError, UnicodeDecodeError) as error:
                log.debug("a worker's connection broke the protocol: %s", error)
                self._flush()
                with trio.move_on_after(GOODBYE_SECONDS):
                    while self._unsent:
                        await self._written.wait()
                return
            self._flush()
            self._end_stalled()
            while len(self._unsent) > UNSENT_BYTES_MAX:
                await self._written.wait()

    def _take(self, event: h2.events.Event, nursery: trio.Nursery) -> None:
        match event:
            case h2.events.RequestReceived():
                self._open(event.stream_id, dict(event.headers))
            case h2.events.DataReceived():
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                call = self._calls.get(event.stream_id)
                if call and not call.answered:
                    self._keep(call, event.data)
            case h2.events.StreamEnded():
                call = self._calls.get(event.stream_id)
                if call and not call.answered and not call.running:
                    call.running = True
                    nursery.start_soon(self._run, call)
            case h2.events.StreamReset():
                self._count(resets=1)
                call = self._calls.get(event.stream_id)
                if call:
                    call.answered = True  # to nobody
                    call.scope.cancel()
                    if not call.running:
                        self._close(call)
            case h2.events.PingReceived():
                self._count(pings=1)
            case h2.events.RemoteSettingsChanged() | h2.events.WindowUpdated():
                if isinstance(event, h2.events.RemoteSettingsChanged):
                    self._greeted = True
                    self._count(pings=1)
                for call in self._calls.values():
                    call.window.set()
            case _:
                pass  # also a GOAWAY: the client closes when its calls are answered

    def _open(self, stream_id: int, headers: Mapping[str, str]) -> None:
        call = _Call(stream_id, headers.get(":path", "")[:PATH_CHARACTERS_SHOWN], trio.current_time())
        self._calls[stream_id] = call
        try:
            if self._draining:
                raise Status(Code.UNAVAILABLE, "this server is about to stop")
            if not headers.get("content-type", "").startswith("application/grpc"):
                self._refuse(call, Status(Code.UNKNOWN, "this is a gRPC server"), http_status="415")
                return
            if headers.get("grpc-encoding", "identity") != "identity":
                raise Status(Code.UNIMPLEMENTED, "compressed messages are not taken")
            if "grpc-timeout" in headers:
                call.timeout_seconds = parse_timeout(headers["grpc-timeout"])
        except Status as status:
            self._refuse(call, status)

    def _keep(self, call: _Call, data: bytes) -> None:
        call.body += data
        self._allowance.bytes_used += len(data)
        announced_bytes = int.from_bytes(call.body[1:PREFIX_BYTES], "big") if len(call.body) >= PREFIX_BYTES else 0
        if max(announced_bytes, len(call.body) - PREFIX_BYTES) > MESSAGE_BYTES_MAX:
            self._refuse(call, Status(Code.RESOURCE_EXHAUSTED, f"a message may have {MESSAGE_BYTES_MAX} bytes"))
        elif self._allowance.bytes_used > self._allowance.bytes_max:
            self._refuse(call, Status(Code.UNAVAILABLE, "too much is being sent to this server, try again later"))

    def _forget_body(self, call: _Call) -> None:
        self._allowance.bytes_used -= len(call.body)
        call.body = bytearray()

    def _count(self, resets: int = 0, pings: int = 0) -> None:
        now = trio.current_time()
        if now - self._counted_since > FLOOD_SECONDS:
            self._counted_since, self._resets, self._pings = now, 0, 0
        self._resets += resets
        self._pings += pings
        if self._resets > RESETS_MAX or self._pings > PINGS_MAX:
            self._http.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            raise h2.exceptions.ProtocolError("too many streams were reset, or too many pings came")

    def _end_stalled(self) -> None:
        """Refuse the requests that began long ago and never ended."""
        now = trio.current_time()
        if now - self._looked_at > REQUEST_SECONDS / 2:
            self._looked_at = now
            for call in list(self._calls.values()):
                if not call.running and now - call.opened_at > REQUEST_SECONDS:
                    self._refuse(call, Status(Code.DEADLINE_EXCEEDED, "the request did not arrive in time"))

    # A call.

    async def _run(self, call: _Call) -> None:
        try:
            with call.scope:
                if call.timeout_seconds is not None:
                    call.scope.deadline = trio.current_time() + call.timeout_seconds
                await self._answer(call)
            if call.scope.cancelled_caught:
                self._refuse(call, call.end or Status(Code.DEADLINE_EXCEEDED, "the call's deadline is over"))
        except Status as status:
            self._refuse(call, status)
        except h2.exceptions.ProtocolError:
            pass  # the client is gone, the reader sees it too
        except Exception:
            log.exception("an error in %s that nobody foresaw", call.path)
            self._refuse(call, Status(Code.INTERNAL, "the server failed; its log says why"))
        finally:
            self._close(call)

    async def _answer(self, call: _Call) -> None:
        _, service_name, method_name = f"{call.path}//".split("/")[:3]
        service = self._services.get(service_name)
        method = service.methods.get(method_name) if service else None
        if method is None:
            raise Status(Code.UNIMPLEMENTED, f"there is no method {call.path}")
        message = _parse(method.signature.request_type, unframe(call.body))
        self._forget_body(call)
        if method.signature.cardinality is Cardinality.UNARY_UNARY:
            reply = await method.method_fn(message, request=None)
            await self._send(call, frame(reply.SerializeToString()), end=True)
            return
        call.streaming = True
        replies: AsyncIterator[Any] = method.method_fn(message, request=None)
        async with aclosing(replies):  # type: ignore[type-var]
            async for reply in replies:
                await self._send(call, frame(reply.SerializeToString()))
        await self._send(call, b"", end=True)

    async def _send(self, call: _Call, data: bytes, *, end: bool = False) -> None:
        """Headers if they were not sent, a message, trailers at the end: as fast as the client takes it."""
        while len(self._unsent) > UNSENT_BYTES_MAX:
            await self._written.wait()
        if not call.headed:
            self._http.send_headers(call.stream_id, _HEAD)
            call.headed = True
        sent_bytes = 0
        while sent_bytes < len(data):
            room = min(self._http.local_flow_control_window(call.stream_id), self._http.max_outbound_frame_size)
            if room <= 0 or len(self._unsent) > UNSENT_BYTES_MAX:
                self._flush()
                call.window = trio.Event()
                await (call.window if room <= 0 else self._written).wait()
                continue
            self._http.send_data(call.stream_id, data[sent_bytes : sent_bytes + room])
            sent_bytes += room
        if end:
            self._http.send_headers(call.stream_id, _TAIL_OK, end_stream=True)
            call.answered = True
        self._flush()

    def _refuse(self, call: _Call, status: Status, http_status: str = "200") -> None:
        """End a call with a status; nothing if it was answered already."""
        if call.answered:
            return
        call.answered = True
        self._forget_body(call)
        try:
            tail = [("grpc-status", str(int(status.code))), ("grpc-message", encode_message(status.message))]
            head = [(":status", http_status), ("content-type", "application/grpc"), _ENCODINGS]
            self._http.send_headers(call.stream_id, tail if call.headed else head + tail, end_stream=True)
            if not call.running:
                # The client may still be sending: it need not.
                self._http.reset_stream(call.stream_id, ErrorCodes.NO_ERROR)
        except h2.exceptions.ProtocolError:
            pass  # the stream is closed
        self._flush()
        if not call.running:
            self._close(call)

    def _close(self, call: _Call) -> None:
        self._forget_body(call)
        self._calls.pop(call.stream_id, None)
        self._note_quiet()

    def _note_quiet(self) -> None:
        if self._draining and not self._calls:
            self._quiet.set()

    # Out.

    def _flush(self) -> None:
        data = self._http.data_to_send()
        if data:
            self._unsent += data
            self._to_write.set()

    async def _write_all(self) -> None:
        while True:
            await self._to_write.wait()
            while self._unsent:
                data = bytes(self._unsent[:SEND_BYTES])
                try:
                    with trio.fail_after(SEND_SECONDS):
                        await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                    self._scope.cancel()
                    return
                del self._unsent[: len(data)]
                self._written.set()
                self._written = trio.Event()
            self._to_write = trio.Event()


_HEAD = [(":status", "200"), ("content-type", "application/grpc")]
_TAIL_OK = [("grpc-status", "0")]
_ENCODINGS = ("grpc-accept-encoding", "identity")


def _parse(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except (DecodeError, UnicodeDecodeError):
        raise Status(Code.INVALID_ARGUMENT, f"the message is not a {kind.DESCRIPTOR.name}") from None
