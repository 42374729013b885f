"""One client's connection: HTTP/1.1 by h11 on one side, an ASGI application on the other. Nothing else is spoken.

All of it is one task. A request is guarded by its head, its body is read whole, within limits of size and time, and
only then is the application called: so one place counts bytes, whatever the headers say. While the application works
nothing is read, unless it asks whether the client is still there. A response leaves in one write when it is complete;
one whose end is not there yet leaves as it comes.

Timeouts are the deadline of one scope, which moves from phase to phase. A refusal is the last response of its
connection: what the client is still sending is read and dropped for a while, so that it gets to read the refusal.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import unquote

import attrs
import h11
import trio

from orchy.rest.http.admission import Admission
from orchy.rest.http.bodies import has_too_many_values
from orchy.rest.http.limits import Limits, Timing
from orchy.rest.http.refusal import Refusal, quoted
from orchy.rest.http.response import ResponseEncoder
from orchy.rest.middleware.guard import Guard, path_of
from orchy.rest.responses import error_body, send_json
from orchy.runtime.sockets import PromptStream
from orchy.runtime.token_bucket import TokenBucket

#: How much of what a refused client still sends is read and dropped.
LINGER_BYTES_MAX = 64 * 2**20
#: Bytes of later requests that are taken while one is answered.
PIPELINED_BYTES_MAX = 64 * 1024
#: A longer response leaves in parts.
GATHERED_BYTES_MAX = 64 * 1024
RECEIVE_BYTES = 64 * 1024
#: Requests of one packet, and parts of a body, that are taken before other tasks have their turn.
REQUESTS_IN_A_ROW = 8
PARTS_IN_A_ROW = 100
#: A body may have so many parts, however small; beyond that they must be of PART_BYTES_MIN on average.
PARTS_MAX = 2_000
PART_BYTES_MIN = 64

_TLS_HANDSHAKE = 0x16

Application = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Counts what ends before or beside the application."""

    def request_refused(self, reason: str) -> None:
        """A request was refused before any route saw it."""
        ...

    def connection_failed(self) -> None:
        """A connection ended by an unexpected exception."""
        ...


@attrs.frozen
class ServerContext:
    """What all connections of a server share."""

    application: Application
    guard: Guard
    admission: Admission
    bucket: TokenBucket | None
    observer: Observer
    limits: Limits
    timing: Timing


class Phase(enum.Enum):
    """What a connection waits for."""

    IDLE = "a request"
    HEAD = "the rest of a head"
    BODY = "the rest of a body"
    SERVING = "the application"
    ENDING = "the client, to read its last response"


class _Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.sentence)
        self.refusal = refusal


class Connection:
    """`held_bytes` are those of its body, or of a response that it does not take: see Admission."""

    def __init__(self, context: ServerContext, stream: PromptStream) -> None:
        self.held_bytes = 0
        self._context = context
        self._limits = context.limits
        self._timing = context.timing
        self._stream = stream
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=context.limits.head_bytes_max)
        self._scope = trio.CancelScope()
        self._phase = Phase.IDLE
        self._request: h11.Request | None = None
        self._first_byte: int | None = None
        self._stopping = False  # after the response under way
        self._eof = False  # the client sends nothing more
        self._unwritable = False  # the client does not read what is sent
        self._evicted = False
        self._client: tuple[str, int] = ("", 0)
        self._local: tuple[str, int] = ("", 0)
        self._unsent = bytearray()
        self._begin_exchange(b"")

    def _begin_exchange(self, body: bytes) -> None:
        """Prepare for the response to a request that has this body."""
        self._body: bytes | None = body
        self._response = ResponseEncoder(self._h11, b"" if self._request is None else self._request.method)
        self._disconnect_seen = False  # by the application
        self._pipelined_bytes = 0

    @property
    def about(self) -> str:
        """Its client and request, for a log line."""
        what = "" if self._request is None else f": {quoted(self._request.method)} {quoted(self._request.target)}"
        return f"{self._client[0]}:{self._client[1]}{what}"

    # Called by the server.

    def evict(self) -> None:
        """End, to make room for another; nothing was asked of the application yet."""
        self._evicted = True
        self._scope.cancel()

    def stop(self) -> None:
        """End when the request under way is answered."""
        self._stopping = True
        if self._phase in (Phase.IDLE, Phase.HEAD, Phase.ENDING):
            self._scope.cancel()

    # Its life.

    async def serve(self) -> None:
        """Serve it until it is over. Closing the stream is the caller's."""
        try:
            self._client = self._stream.socket.getpeername()[:2]
            self._local = self._stream.socket.getsockname()[:2]
        except OSError:  # it is closed already
            return
        try:
            with self._scope:
                await self._serve_requests()
            if not self._scope.cancelled_caught:
                return
            refusal = self._cancelled_refusal()
        except _Refused as refused:
            refusal = refused.refusal
        except h11.RemoteProtocolError as error:
            refusal = self._malformed_refusal(error)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        if refusal is not None and not self._unwritable:
            await self._refuse(refusal)

    async def _serve_requests(self) -> None:
        in_a_row = 0
        while not self._stopping and not self._eof:
            request = await self._next_request()
            if request is None:
                return
            self._request = request
            headers = list(request.headers)
            refusal = self._context.guard.refuse(
                request.http_version, request.method, request.target, headers, self._local[0]
            )
            if refusal is not None:
                raise _Refused(refusal)
            self._begin_exchange(await self._read_body(headers))
            if self._scope.cancel_called:  # evicted or timed out just now
                await trio.lowlevel.checkpoint()
            self._scope.deadline = float("inf")
            self._phase = Phase.SERVING
            self._context.admission.start_serving(self)
            await self._call_application(request, headers)
            if not self._response.ended or self._unwritable:
                return
            if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
                return
            self._h11.start_next_cycle()
            self._request = None
            self._phase = Phase.IDLE
            self._context.admission.start_waiting(self)
            in_a_row += 1
            if in_a_row == REQUESTS_IN_A_ROW:
                in_a_row = 0
                await trio.lowlevel.checkpoint()

    def _cancelled_refusal(self) -> Refusal | None:
        """The refusal for why the scope was cancelled; None where the client needs none."""
        if self._evicted:
            return Refusal(503, "crowd", "this node has too many connections, try again")
        match self._phase:
            case Phase.HEAD if not self._stopping:
                return Refusal(
                    408, "timeout", f"the head of the request did not arrive within {self._timing.head_seconds:g} s"
                )
            case Phase.BODY:
                return Refusal(408, "timeout", f"the body did not arrive within {self._timing.body_seconds:g} s")
            case _:
                return None

    def _malformed_refusal(self, error: h11.RemoteProtocolError) -> Refusal | None:
        if self._first_byte == _TLS_HANDSHAKE:
            log.debug("%s speaks TLS, this port does not", self.about)
            self._context.observer.request_refused("tls")
            return None
        if self._eof:  # the client left in the middle of a request
            return None
        status = error.error_status_hint
        return Refusal(status if status in (431, 501) else 400, "request", f"this is no request of HTTP/1.1: {error}")

    # Reading.

    async def _receive(self) -> int:
        """Pass what has arrived to h11; how many bytes that is."""
        data = await self._stream.receive_some(RECEIVE_BYTES)
        if not data:
            self._eof = True
        elif self._first_byte is None:
            self._first_byte = data[0]
        self._h11.receive_data(data)
        return len(data)

    async def _next_request(self) -> h11.Request | None:
        """The next head; None if there is none. Raises RemoteProtocolError."""
        event = self._h11.next_event()
        if event is h11.NEED_DATA:
            self._scope.deadline = trio.current_time() + self._timing.idle_seconds
            while event is h11.NEED_DATA:
                if self._phase is Phase.IDLE and (begun := self._h11.trailing_data[0]):
                    if not begun[:1].isalpha() and begun[:1] not in b"\r\n":
                        raise h11.RemoteProtocolError("a request begins with a method")
                    self._phase = Phase.HEAD
                    self._scope.deadline = trio.current_time() + self._timing.head_seconds
                await self._receive()
                event = self._h11.next_event()
        return event if isinstance(event, h11.Request) else None

    async def _read_body(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The whole body. Raises _Refused, RemoteProtocolError."""
        limit = self._limits.body_bytes_max
        length = next((int(value) for name, value in headers if name == b"content-length"), 0)
        if length > limit:
            raise _Refused(self._too_large())
        if self._h11.they_are_waiting_for_100_continue:
            self._unsent += self._h11.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
            await self._flush()
        body = bytearray()
        parts = 0
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                if self._phase is not Phase.BODY:
                    self._phase = Phase.BODY
                    self._scope.deadline = trio.current_time() + self._timing.body_seconds
                await self._receive()
            elif isinstance(event, h11.Data):
                body += event.data
                parts += 1
                if len(body) > limit:
                    raise _Refused(self._too_large())
                if not self._context.admission.hold_bytes(self, len(event.data)):
                    raise _Refused(Refusal(503, "bytes", "too much is being sent to this node, try again later"))
                if parts > PARTS_MAX and len(body) < parts * PART_BYTES_MIN:
                    raise _Refused(Refusal(400, "request", "the chunks of the body are too small"))
                if parts % PARTS_IN_A_ROW == 0:
                    await trio.lowlevel.checkpoint()
            elif isinstance(event, h11.EndOfMessage):
                if has_too_many_values(body, self._limits.values_max):
                    raise _Refused(Refusal(413, "values", f"the body has more than {self._limits.values_max:,} values"))
                return bytes(body)
            else:
                raise h11.RemoteProtocolError("the body does not end")

    def _too_large(self) -> Refusal:
        return Refusal(413, "body", f"the body is larger than {self._limits.body_bytes_max} bytes (--body-limit-bytes)")

    # The application.

    async def _call_application(self, request: h11.Request, headers: list[tuple[bytes, bytes]]) -> None:
        bucket = self._context.bucket
        if bucket is not None and not bucket.take(trio.current_time()):
            self._context.observer.request_refused("rate")
            await self._respond(429, "more requests come than --http-requests-per-second allows; try again")
            return
        path, _, query = path_of(request.target).partition(b"?")
        scope = {
            "type": "http",
            "asgi": {"spec_version": "2.1", "version": "3.0"},
            "http_version": request.http_version.decode(),
            "method": request.method.decode(),
            "scheme": "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self._client,
            "server": self._local,
            "extensions": {},
        }
        try:
            await self._context.application(scope, self._receive_message, self._send_message)
        except* Exception as group:
            self._context.observer.connection_failed()
            log.error("the application failed for %s", self.about, exc_info=group)
            self._stopping = True
        if not self._response.started and not self._disconnect_seen:
            await self._respond(500, "the server failed; its log says why")

    async def _respond(self, status: int, sentence: str) -> None:
        """Respond in the place of the application, on a connection that may go on."""
        await send_json(self._send_message, error_body(sentence), status)

    async def _receive_message(self) -> dict[str, Any]:
        """The `receive` of ASGI: the body; when called again, waits until the client has disconnected."""
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        while not self._eof:
            if self._pipelined_bytes > PIPELINED_BYTES_MAX:
                await trio.sleep_forever()
            try:
                self._pipelined_bytes += await self._receive()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._eof = self._unwritable = True
        self._disconnect_seen = True
        return {"type": "http.disconnect"}

    async def _send_message(self, message: Any) -> None:
        """The `send` of ASGI: the head of a response, or some of its body."""
        if not self._unwritable:
            self._unsent += self._response.encode(message, closes=self._stopping or self._eof)
            if self._response.flush_due or len(self._unsent) > GATHERED_BYTES_MAX:
                await self._flush()

    # Writing.

    async def _flush(self) -> None:
        """Send what is gathered: at once if the socket takes it, else as the client does."""
        del self._unsent[: self._stream.send_at_once(self._unsent)]
        if not self._unsent:
            return
        data = bytes(self._unsent)
        self._unsent.clear()
        taken = False
        try:
            if self._context.admission.hold_bytes(self, len(data)):
                with trio.move_on_after(self._timing.send_seconds):
                    await self._stream.send_all(data)
                    taken = True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._unwritable = not taken

    async def _refuse(self, refusal: Refusal) -> None:
        """Send a refusal, and give the client the time to read it."""
        self._context.observer.request_refused(refusal.reason)
        self._context.admission.release_bytes(self)
        self._phase = Phase.ENDING
        head_only = self._request is not None and self._request.method == b"HEAD"
        response = refusal.closing_response(head_only=head_only)
        if self._evicted:  # its place is needed now
            self._stream.send_at_once(response)
            return
        self._unsent += response
        self._scope = trio.CancelScope(deadline=trio.current_time() + self._timing.linger_seconds)
        with self._scope, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._flush()
            await self._stream.send_eof()
            left_bytes = LINGER_BYTES_MAX
            while left_bytes > 0 and (data := await self._stream.receive_some(RECEIVE_BYTES)):
                left_bytes -= len(data)
