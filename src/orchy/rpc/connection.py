"""One client's HTTP/2 connection: calls in, answers out. h2 keeps the protocol, purerpc's services say what there is.

What a client can't do: keep a call running that it has cancelled or whose deadline is over (the handler is
cancelled), have a call wait for ever (a compressed or oversized message is answered at once), or make the server
keep more than it may (streams, message sizes and unsent bytes have limits, and so has the number of streams that it opens
only to reset them). A connection on which nothing arrives is pinged and closed when the ping is not answered.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import attrs
import h2.config
import h2.connection
import h2.events
import h2.exceptions
import trio
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from purerpc import Service
from purerpc.rpc import Cardinality

from orchy.rpc.framing import PREFIX_BYTES, Code, Status, encode_message, frame, parse_timeout, unframe

RECEIVE_BYTES = 64 * 1024
STREAMS_MAX = 1_000
MESSAGE_BYTES_MAX = 10 * 2**20
WINDOW_BYTES = 2**20
HEADER_BYTES_MAX = 16 * 1024
#: Reading stops while this much waits to be written.
UNSENT_BYTES_MAX = 2 * 2**20
#: A client that has opened more streams than this, and reset half of them, is told to calm down.
RESETS_MAX = 1_000
FIRST_CALL_SECONDS = 20.0
PING_AFTER_SECONDS = 60.0
PING_ANSWER_SECONDS = 20.0

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class _Call:
    """A stream that has its headers."""

    stream_id: int
    path: str
    timeout_seconds: float | None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    body: bytearray = attrs.field(factory=bytearray)
    answered: bool = False
    running: bool = False
    window: trio.Event = attrs.field(factory=trio.Event)


class Connection:
    """Serves one stream of bytes. `drain` lets the calls under way end and takes no more."""

    def __init__(self, stream: trio.abc.Stream, services: Mapping[str, Service]) -> None:
        self._stream = stream
        self._services = services
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self._calls: dict[int, _Call] = {}
        self._to_write = trio.Event()
        self._written = trio.Event()
        self._unsent_bytes = 0
        self._opened = 0
        self._resets = 0
        self._draining = False
        self._quiet = trio.Event()

    async def serve(self) -> None:
        """Until the client is gone or breaks the protocol, or the drain is over."""
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
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_all)
            try:
                await self._read_all(nursery)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            except (h2.exceptions.ProtocolError, UnicodeDecodeError) as error:
                log.debug("a worker's connection broke the protocol: %s", error)
                await self._say_goodbye()
            nursery.cancel_scope.cancel()

    def drain(self) -> None:
        """Take no more calls; end when those under way have."""
        if not self._draining:
            self._draining = True
            try:
                self._http.close_connection(last_stream_id=self._http.highest_inbound_stream_id)
            except h2.exceptions.ProtocolError:
                pass  # closed already
            self._flush()
            self._note_quiet()

    async def quiet(self) -> None:
        """Returns when no call is under way after `drain`, and all is written."""
        await self._quiet.wait()
        while self._unsent_bytes or self._to_write.is_set():
            await self._written.wait()

    # In.

    async def _read_all(self, nursery: trio.Nursery) -> None:
        pinged = False
        while True:
            if not self._opened:
                wait_seconds = FIRST_CALL_SECONDS
            else:
                wait_seconds = PING_ANSWER_SECONDS if pinged else PING_AFTER_SECONDS
            data: bytes | bytearray | None = None
            with trio.move_on_after(wait_seconds):
                data = await self._stream.receive_some(RECEIVE_BYTES)
            if data is None:
                if pinged or not self._opened:
                    return  # half-open, or never was a client of ours
                self._http.ping(b"orchy-ok")
                self._flush()
                pinged = True
                continue
            if not data:
                return
            pinged = False
            for event in self._http.receive_data(bytes(data)):
                self._take(event, nursery)
            self._flush()
            while self._unsent_bytes > UNSENT_BYTES_MAX:
                await self._written.wait()

    def _take(self, event: h2.events.Event, nursery: trio.Nursery) -> None:
        match event:
            case h2.events.RequestReceived():
                self._open(event.stream_id, dict(event.headers))
            case h2.events.DataReceived():
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                call = self._calls.get(event.stream_id)
                if call and not call.answered:
                    call.body += event.data
                    if len(call.body) > MESSAGE_BYTES_MAX + PREFIX_BYTES:
                        self._refuse(call, Status(Code.RESOURCE_EXHAUSTED, "the message is too large"))
            case h2.events.StreamEnded():
                call = self._calls.get(event.stream_id)
                if call and not call.answered and not call.running:
                    call.running = True
                    nursery.start_soon(self._run, call)
            case h2.events.StreamReset():
                self._resets += 1
                if self._resets > RESETS_MAX and self._resets > self._opened / 2:
                    self._http.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
                    raise h2.exceptions.ProtocolError("too many streams were reset")
                call = self._calls.get(event.stream_id)
                if call:
                    call.answered = True  # to nobody
                    call.scope.cancel()
                    if not call.running:
                        self._close(call)
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                for call in self._calls.values():
                    call.window.set()
            case h2.events.ConnectionTerminated():
                self._draining = True
                self._note_quiet()
            case _:
                pass

    def _open(self, stream_id: int, headers: Mapping[str, str]) -> None:
        self._opened += 1
        call = self._calls[stream_id] = _Call(stream_id, headers.get(":path", ""), None)
        try:
            if self._draining:
                raise Status(Code.UNAVAILABLE, "this server is about to stop")
            if not headers.get("content-type", "").startswith("application/grpc"):
                raise Status(Code.UNKNOWN, "this is a gRPC server: content-type must be application/grpc")
            if headers.get("grpc-encoding", "identity") != "identity":
                raise Status(Code.UNIMPLEMENTED, "compressed messages are not taken")
            if "grpc-timeout" in headers:
                call.timeout_seconds = parse_timeout(headers["grpc-timeout"])
        except Status as status:
            self._refuse(call, status)

    # A call.

    async def _run(self, call: _Call) -> None:
        try:
            with call.scope:
                if call.timeout_seconds is not None:
                    call.scope.deadline = trio.current_time() + call.timeout_seconds
                await self._answer(call)
            if call.scope.cancelled_caught and not call.answered:
                self._refuse(call, Status(Code.DEADLINE_EXCEEDED, "the call's deadline is over"))
        except Status as status:
            self._refuse(call, status)
        except (h2.exceptions.ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
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
        call.body.clear()
        if method.signature.cardinality is Cardinality.UNARY_UNARY:
            reply = await method.method_fn(message, request=None)
            await self._send(call, _head(call), frame(reply.SerializeToString()), end=_tail(Code.OK))
            return
        replies: AsyncIterator[Any] = method.method_fn(message, request=None)
        head = _head(call)
        async with aclosing(replies):  # type: ignore[type-var]
            async for reply in replies:
                await self._send(call, head, frame(reply.SerializeToString()))
                head = []
        await self._send(call, head, b"", end=_tail(Code.OK))

    async def _send(
        self, call: _Call, head: list[tuple[str, str]], data: bytes, end: list[tuple[str, str]] | None = None
    ) -> None:
        """Headers, a message, trailers: what there is of them, as fast as the client takes it."""
        if head:
            self._http.send_headers(call.stream_id, head)
        rest = memoryview(data)
        while rest:
            room = min(
                self._http.local_flow_control_window(call.stream_id), self._http.max_outbound_frame_size, len(rest)
            )
            if room <= 0:
                call.window = trio.Event()
                self._flush()
                await call.window.wait()
                continue
            self._http.send_data(call.stream_id, bytes(rest[:room]))
            rest = rest[room:]
        if end is not None:
            self._http.send_headers(call.stream_id, end, end_stream=True)
            call.answered = True
        self._flush()

    def _refuse(self, call: _Call, status: Status) -> None:
        """Answer with a status and nothing else."""
        if call.answered:
            return
        call.answered = True
        call.body.clear()
        try:
            headers = [(":status", "200"), ("content-type", "application/grpc"), *_tail(status.code, status.message)]
            self._http.send_headers(call.stream_id, headers, end_stream=True)
            if not call.running:
                # The client may still be sending: it need not.
                self._http.reset_stream(call.stream_id, ErrorCodes.NO_ERROR)
        except h2.exceptions.ProtocolError:
            pass  # the stream is closed
        self._flush()
        if not call.running:
            self._close(call)

    def _close(self, call: _Call) -> None:
        self._calls.pop(call.stream_id, None)
        self._note_quiet()

    def _note_quiet(self) -> None:
        if self._draining and not self._calls:
            self._quiet.set()

    # Out.

    def _flush(self) -> None:
        self._to_write.set()

    async def _write_all(self) -> None:
        while True:
            await self._to_write.wait()
            self._to_write = trio.Event()
            data = self._http.data_to_send()
            if data:
                self._unsent_bytes = len(data)
                try:
                    await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return  # the reader sees it too
            self._unsent_bytes = 0
            self._written.set()
            self._written = trio.Event()

    async def _say_goodbye(self) -> None:
        """What h2 has to say of the client's mistake, if it can still be said."""
        with trio.move_on_after(1):
            try:
                await trio.lowlevel.checkpoint()
                data = self._http.data_to_send()
                if data and not self._unsent_bytes:
                    await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError):
                pass


def _head(call: _Call) -> list[tuple[str, str]]:
    return [(":status", "200"), ("content-type", "application/grpc")]


def _tail(code: Code, message: str = "") -> list[tuple[str, str]]:
    tail = [("grpc-status", str(int(code)))]
    if message:
        tail.append(("grpc-message", encode_message(message)))
    return tail


def _parse(kind: Any, data: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return kind.FromString(data)
    except (DecodeError, UnicodeDecodeError):
        raise Status(Code.INVALID_ARGUMENT, f"the message is not a {kind.DESCRIPTOR.name}") from None
