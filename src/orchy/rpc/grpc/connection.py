"""One client's connection to the server: calls in, replies out. `http2` does the protocol, `services` has the methods.

What a client can't do: keep a call running that it has cancelled or whose deadline is over (the handler is cancelled),
leave a call waiting for ever (a compressed or oversized message is refused at once), or make the server keep more than
`limits` says. A connection that does not begin as HTTP/2 in time is closed; one on which nothing arrives is pinged, and
closed when the ping is not answered.

Why it is fast: all that arrived is processed before any handler runs, replies that are ready together leave in one
write (`write_buffer`), and the headers of replies are encoded at import.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from functools import partial

import trio

from orchy.rpc.grpc.call import BufferQuota, Call
from orchy.rpc.grpc.framing import Code, Status, encode_message, frame, parse_timeout, unframe
from orchy.rpc.grpc.keepalive import Keepalive
from orchy.rpc.grpc.limits import CONNECTION_LIMITS, CONNECTION_TIMING, ConnectionLimits, ConnectionTiming
from orchy.rpc.grpc.services import Method
from orchy.rpc.grpc.sniffing import SniffedProtocol, reject, reply_on_plaintext_port, sniff_client
from orchy.rpc.grpc.write_buffer import SEND_BYTES, SEND_SECONDS, WriteBuffer
from orchy.rpc.http2.events import (
    DataReceived,
    Event,
    HeadersReceived,
    Role,
    SettingsReceived,
    StreamReset,
    WindowOpened,
)
from orchy.rpc.http2.frames import ErrorCode, NotHttp2, ProtocolError
from orchy.rpc.http2.headers import encode_block
from orchy.rpc.http2.machine import Http2

#: Of one read.
RECEIVE_BYTES = 64 * 1024
PATH_CHARACTERS_SHOWN = 200

log = logging.getLogger(__name__)

_CONTENT_TYPE = re.compile(r"application/grpc(?:[+;]|$)")
_HEAD = encode_block([(":status", "200"), ("content-type", "application/grpc")])
_TAIL_OK = encode_block([("grpc-status", "0")])


class Connection:
    """Serves one byte stream."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        methods: Mapping[str, Method],
        quota: BufferQuota,
        limits: ConnectionLimits = CONNECTION_LIMITS,
        timing: ConnectionTiming = CONNECTION_TIMING,
    ) -> None:
        self._limits = limits
        self._timing = timing
        self._stream = stream
        self._write_buffer = WriteBuffer(stream)
        self._methods = methods
        self._quota = BufferQuota(limits.requests_bytes_max, parent=quota)
        self._http = Http2(Role.SERVER, limits.http2)
        self._keepalive = Keepalive(timing.ping_after_seconds, timing.ping_answer_seconds)
        self._calls: dict[int, Call] = {}
        self._settings_received = False
        self._windows_grew = False  # of all calls, perhaps
        self._flood_counts_reset_at = 0.0
        self._timeouts_checked_at = 0.0
        self._draining = False
        self._drained = trio.Event()
        self._over = False
        self._scope = trio.CancelScope()
        self.foreign_protocol: SniffedProtocol | None = None

    async def serve(self) -> None:
        """Serve until the client is gone, or breaks the protocol (another one: `foreign_protocol`), or `close`."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write_all)
                    nursery.start_soon(self._watch)
                    await self._read_all(nursery)
                    self._scope.cancel()
        finally:
            for call in list(self._calls.values()):
                self._close(call)
            self._over = True
            self._drained.set()
            self._write_buffer.wake()

    def drain(self) -> None:
        """Send GOAWAY: refuse new calls, finish those under way, end those that would never finish by themselves."""
        if not self._draining:
            self._draining = True
            self._http.send_goaway()
            self._flush()
            for call in self._calls.values():
                if call.method is not None and call.method.takes_stream:
                    call.close_request()
                elif call.method is not None and call.method.answers_stream:
                    call.end = Status(Code.UNAVAILABLE, "this server is about to stop")
                    call.scope.cancel()
            self._check_drained()

    async def wait_drained(self) -> None:
        """Returns when, after `drain`, no call is under way and all is written; or when the client is gone."""
        await self._drained.wait()
        while self._write_buffer and not self._over:
            await self._write_buffer.wait_for_progress()

    def close(self) -> None:
        """Close at once."""
        self._scope.cancel()

    # In.

    async def _read_all(self, nursery: trio.Nursery) -> None:
        while True:
            try:
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if not data:
                    return
                self._keepalive.heard()
                for event in self._http.receive(data):
                    self._take(event, nursery)
                if self._windows_grew:
                    self._windows_grew = False
                    self._wake_senders(self._calls.values())
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            except NotHttp2 as error:
                await self._reject(sniff_client(error.first))
                return
            except ProtocolError as error:
                log.debug("a worker's connection broke the protocol: %s", error)
                self._flush()
                with trio.move_on_after(self._timing.last_write_seconds):
                    while self._write_buffer:
                        await self._write_buffer.wait_for_progress()
                return
            if self._http.preface_received:  # a client of another protocol would not understand
                self._flush()
            self._check_timeouts()
            while len(self._write_buffer) > self._limits.unsent_bytes_max:
                await self._write_buffer.wait_for_progress()
                self._keepalive.postpone()

    async def _reject(self, foreign_protocol: SniffedProtocol) -> None:
        self.foreign_protocol = foreign_protocol
        try:
            # In one write with nothing before it: our SETTINGS have not been sent.
            await reject(self._stream, reply_on_plaintext_port(foreign_protocol) or self._http.data_to_send())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a client that speaks %s was gone before it was answered", foreign_protocol)

    async def _watch(self) -> None:
        """End a connection that does not begin as HTTP/2 in time, or is half-open."""
        await trio.sleep(self._timing.handshake_seconds)
        if self._settings_received:
            await self._keepalive.watch(self._ping)
        self._scope.cancel()

    def _ping(self) -> None:
        self._http.ping()
        self._flush()
        self._check_timeouts()

    def _take(self, event: Event, nursery: trio.Nursery) -> None:
        match event:
            case HeadersReceived(stream_id, headers, ended):
                if ":method" in headers.fields:  # else these are trailers, perhaps of a call that is over
                    self._open(stream_id, headers.fields, nursery)
                if ended:
                    self._end_request(stream_id, nursery)
            case DataReceived(stream_id, data, ended):
                call = self._calls.get(stream_id)
                if call is not None and not call.answered and not call.request_ended:
                    try:
                        call.add_data(data)
                    except Status as status:
                        self._abort(call, status)
                if ended:
                    self._end_request(stream_id, nursery)
            case StreamReset(stream_id):
                call = self._calls.get(stream_id)
                if call is not None:
                    call.answered = True  # there is nobody to answer
                    call.scope.cancel()
                    if not call.running:
                        self._close(call)
            case WindowOpened(stream_id):
                if not stream_id:
                    self._windows_grew = True
                elif stream_id in self._calls:
                    self._wake_senders([self._calls[stream_id]])
            case SettingsReceived():
                self._settings_received = self._windows_grew = True
            case _:
                pass  # GOAWAY: the client closes when its calls are answered

    @staticmethod
    def _wake_senders(calls: Iterable[Call]) -> None:
        for call in calls:
            if call.window_opened is not None:
                call.window_opened.set()

    def _open(self, stream_id: int, headers: Mapping[str, str], nursery: trio.Nursery) -> None:
        path = headers[":path"]
        if len(self._calls) >= self._limits.calls_max:
            self._http.reset(stream_id, ErrorCode.REFUSED_STREAM)
            return
        hold_window = partial(self._hold_window, stream_id)
        call = Call(stream_id, path[:PATH_CHARACTERS_SHOWN], trio.current_time(), self._quota, hold_window)
        self._calls[stream_id] = call
        try:
            if self._draining:
                raise Status(Code.UNAVAILABLE, "this server is about to stop")
            if not _CONTENT_TYPE.match(headers.get("content-type", "")):
                self._refuse(call, Status(Code.UNKNOWN, "this is a gRPC server"), http_status="415")
                return
            if headers.get("grpc-encoding", "identity") != "identity":
                raise Status(Code.UNIMPLEMENTED, "compressed messages are not taken")
            if "grpc-timeout" in headers:
                call.timeout_seconds = parse_timeout(headers["grpc-timeout"])
            call.method = self._methods.get(path)
            if call.method is None:
                raise Status(Code.UNIMPLEMENTED, f"there is no method {call.path}")
        except Status as status:
            self._refuse(call, status)
            return
        if call.method.takes_stream:
            self._start(call, nursery)

    def _end_request(self, stream_id: int, nursery: trio.Nursery) -> None:
        call = self._calls.get(stream_id)
        if call is None or call.answered:
            return
        try:
            call.end_request()
        except Status as status:
            self._abort(call, status)
        if not call.running:
            self._start(call, nursery)

    def _start(self, call: Call, nursery: trio.Nursery) -> None:
        call.running = True
        nursery.start_soon(self._run, call)

    def _abort(self, call: Call, status: Status) -> None:
        """End a call while its request is still arriving, or its handler runs."""
        if call.running:
            call.fail(status)
        else:
            self._refuse(call, status)

    def _hold_window(self, stream_id: int, held: bool) -> None:
        if held:
            self._http.hold_window(stream_id)
        else:
            self._http.release_window(stream_id)
            self._flush()

    def _check_timeouts(self) -> None:
        """Reset flood counts from time to time; refuse requests that began to arrive long ago and are not complete."""
        now = trio.current_time()
        if now - self._flood_counts_reset_at > self._timing.flood_seconds:
            self._flood_counts_reset_at = now
            self._http.reset_flood_counts()
        if now - self._timeouts_checked_at > self._timing.request_seconds / 2:
            self._timeouts_checked_at = now
            for call in list(self._calls.values()):
                since = call.unfinished_since
                if since is not None and now - since > self._timing.request_seconds:
                    self._abort(call, Status(Code.DEADLINE_EXCEEDED, "the request did not arrive in time"))

    # A call.

    async def _run(self, call: Call) -> None:
        try:
            with call.scope:
                if call.timeout_seconds is not None:
                    call.scope.deadline = call.opened_at + call.timeout_seconds
                await self._answer(call)
            if call.scope.cancelled_caught:
                self._refuse(call, call.end or Status(Code.DEADLINE_EXCEEDED, "the call's deadline is over"))
        except Status as status:
            self._refuse(call, status)
        except Exception:
            log.exception("an error in %s that nobody foresaw", call.path)
            self._refuse(call, Status(Code.INTERNAL, "the server failed; its log says why"))
        finally:
            self._close(call)

    async def _answer(self, call: Call) -> None:
        method = call.method
        assert method is not None, "a call without one was refused"
        request: object = call
        if not method.takes_stream:
            request = method.parse(unframe(call.body))
            call.discard_body()
        if not method.answers_stream:
            reply = await method.function(request, request=None)
            await self._send(call, frame(reply.SerializeToString()), end=True)
            return
        stream = method.function(request, request=None)
        async with aclosing(stream) as replies:
            async for reply in replies:
                await self._send(call, frame(reply.SerializeToString()))
        await self._send(call, b"", end=True)

    async def _send(self, call: Call, data: bytes, *, end: bool = False) -> None:
        """Send headers if they were not sent, a message, and trailers at the end, as fast as the client reads."""
        while len(self._write_buffer) > self._limits.unsent_bytes_max:
            await self._write_buffer.wait_for_progress()
        if call.end is not None:  # the handler has not noticed yet
            raise call.end
        if not call.headers_sent:
            self._http.send_headers(call.stream_id, _HEAD)
            call.headers_sent = True
        sent_bytes = 0
        while sent_bytes < len(data) and not call.answered:
            sendable_bytes = self._http.sendable_bytes(call.stream_id)
            if sendable_bytes <= 0 or len(self._write_buffer) > self._limits.unsent_bytes_max:
                self._flush()
                await self._wait_to_send(call, sendable_bytes)
                continue
            part = data[sent_bytes : sent_bytes + min(sendable_bytes, SEND_BYTES)]
            self._http.send_data(call.stream_id, part)
            sent_bytes += len(part)
            if sent_bytes < len(data):
                self._flush()  # so that unsent bytes are counted
        if end:
            self._http.send_headers(call.stream_id, _TAIL_OK, end_stream=True)
            call.answered = True
            self._reset_if_still_sending(call)
        self._flush()

    async def _wait_to_send(self, call: Call, sendable_bytes: int) -> None:
        """Wait for a window, or the write. A unary reply is not kept for ever; a stream may be read slowly."""
        call.window_opened = trio.Event()
        may_wait = call.method is not None and call.method.answers_stream
        with trio.move_on_after(math.inf if may_wait else SEND_SECONDS) as scope:
            await (call.window_opened.wait() if sendable_bytes <= 0 else self._write_buffer.wait_for_progress())
        if scope.cancelled_caught:
            raise Status(Code.UNAVAILABLE, "the answer was not taken in time")

    def _refuse(self, call: Call, status: Status, http_status: str = "200") -> None:
        """End a call with a status; nothing if it was answered."""
        if not call.answered:
            call.answered = True
            call.discard_body()
            tail = [("grpc-status", str(int(status.code))), ("grpc-message", encode_message(status.message))]
            head = [
                (":status", http_status),
                ("content-type", "application/grpc"),
                ("grpc-accept-encoding", "identity"),
            ]
            block = encode_block(tail if call.headers_sent else head + tail)
            self._http.send_headers(call.stream_id, block, end_stream=True)
            self._reset_if_still_sending(call)
            self._flush()
        if not call.running:
            self._close(call)

    def _reset_if_still_sending(self, call: Call) -> None:
        """Reset a stream that the client has not ended: it need not send the rest (RFC 9113, section 8.1)."""
        self._http.reset(call.stream_id, ErrorCode.NO_ERROR)

    def _close(self, call: Call) -> None:
        call.discard_body()
        self._calls.pop(call.stream_id, None)
        self._check_drained()

    def _check_drained(self) -> None:
        if self._draining and not self._calls:
            self._drained.set()

    # Out.

    def _flush(self) -> None:
        self._write_buffer.write(self._http.data_to_send(), len(self._calls))

    async def _write_all(self) -> None:
        await self._write_buffer.run()
        self._scope.cancel()
