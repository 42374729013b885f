"""One HTTP/2 connection as a machine without IO (RFC 9113): bytes in, events out; calls in, bytes out. Both roles.

`receive` takes the bytes that arrived and returns what they mean; bytes to be sent gather until `data_to_send`. The
machine keeps the windows and the state of each stream. It replenishes a window as soon as it has passed the data on, so
its owner must bound what it keeps. What the peer does wrong ends the stream or the connection, as the RFC says.

A peer that floods (resets, pings, settings, empty frames, broken streams) gets ENHANCE_YOUR_CALM when it does too much
between two calls of `reset_flood_counts` (`flood`).

Why it is fast: a frame is one slice and one method; header blocks are cached (`headers`); windows are replenished by
halves; nothing is copied on the way out but into the one buffer that is sent.
"""

from __future__ import annotations

from collections.abc import Callable

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
from orchy.rpc.http2.flood import DATA_BYTES_MIN, FloodGuard
from orchy.rpc.http2.frames import (
    SETTING_BYTES,
    STREAM_ID_LIMIT,
    WINDOW_BYTES,
    WINDOW_BYTES_LIMIT,
    ErrorCode,
    Flag,
    Kind,
    ProtocolError,
    StreamError,
    decode_number,
    encode_data,
    encode_frame,
    encode_goaway,
    encode_headers,
    encode_reset,
    encode_window_update,
    unpad,
)
from orchy.rpc.http2.headers import EMPTY_TABLE_SIZE_UPDATE, HeaderReader, message_flaw
from orchy.rpc.http2.limits import Http2Limits
from orchy.rpc.http2.reader import DEPENDS_ON_ITSELF, FrameReader
from orchy.rpc.http2.settings import PeerSettings, initial_frames
from orchy.rpc.http2.streams import RecentlyReset, Stream


class Http2:
    """The machine of one connection, in one of the two roles."""

    def __init__(self, role: Role, limits: Http2Limits) -> None:
        self._is_server = role is Role.SERVER
        self._limits = limits
        self._stream_window_bytes = limits.stream_window_bytes
        self._window_bytes = limits.window_bytes
        self._receive_window = limits.window_bytes
        self._send_window = WINDOW_BYTES
        self.peer = PeerSettings()
        self._streams: dict[int, Stream] = {}
        self._peer_streams = 0
        self._locally_reset = RecentlyReset(limits.reset_streams_remembered)
        self._highest_peer_id = 0
        self._next_id = 1
        self._frames = FrameReader(expects_preface=self._is_server)
        self._headers = HeaderReader()
        self._flood = FloodGuard(limits.flood)
        self._table_size_sent = False  # that our header blocks use no table
        self._goaway_stream_id: int | None = None  # the stream that GOAWAY named
        self._handlers: dict[int, Callable[[int, int, bytes, list[Event]], None]] = {
            Kind.DATA: self._on_data,
            Kind.HEADERS: self._on_headers,
            Kind.PRIORITY: self._on_priority,
            Kind.RST_STREAM: self._on_reset,
            Kind.SETTINGS: self._on_settings,
            Kind.PUSH_PROMISE: self._on_push_promise,
            Kind.PING: self._on_ping,
            Kind.GOAWAY: self._on_goaway,
            Kind.WINDOW_UPDATE: self._on_window_update,
        }
        self._out = bytearray(initial_frames(limits, is_server=self._is_server))

    @property
    def preface_received(self) -> bool:
        """Whether the peer is known to speak HTTP/2; always, of a server."""
        return self._frames.preface_received

    # Out.

    def data_to_send(self) -> bytes:
        """What is to be sent; it is forgotten here."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def open_stream(self, block: bytes) -> int:
        """Begin a request (clients). Raises ProtocolError when the numbers are used up."""
        stream_id = self._next_id
        if stream_id > STREAM_ID_LIMIT:
            raise ProtocolError(ErrorCode.NO_ERROR, "this connection has no more streams")
        self._next_id += 2
        self._streams[stream_id] = Stream(stream_id, self.peer.window_bytes, self._stream_window_bytes)
        self.send_headers(stream_id, block)
        return stream_id

    def is_open(self, stream_id: int) -> bool:
        """Whether something can be sent on the stream."""
        stream = self._streams.get(stream_id)
        return stream is not None and not stream.local_ended

    def send_headers(self, stream_id: int, block: bytes, *, end_stream: bool = False) -> None:
        """Headers or trailers; nothing if the stream is no more."""
        if self.is_open(stream_id):
            if self.peer.shrinks_table and not self._table_size_sent:
                self._table_size_sent = True
                block = EMPTY_TABLE_SIZE_UPDATE + block
            self._out += encode_headers(stream_id, block, end_stream=end_stream, frame_bytes=self.peer.frame_bytes)
            if end_stream:
                self._end_local(stream_id)

    def sendable_bytes(self, stream_id: int) -> int:
        """How many bytes of a body may be sent now."""
        stream = self._streams.get(stream_id)
        return min(self._send_window, stream.send_window) if stream else 0

    def send_data(self, stream_id: int, data: bytes, *, end_stream: bool = False) -> None:
        """At most `sendable_bytes` bytes of a body; nothing if the stream is no more."""
        if not self.is_open(stream_id):
            return
        size = len(data)
        self._send_window -= size
        self._flood.count_data_sent(1 + size // self.peer.frame_bytes)
        self._streams[stream_id].send_window -= size
        self._out += encode_data(stream_id, data, end_stream=end_stream, frame_bytes=self.peer.frame_bytes)
        if end_stream:
            self._end_local(stream_id)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Reset a stream; nothing if it is no more."""
        if stream_id in self._streams:
            self._remove(stream_id)
            self._reset(stream_id, code)

    def hold_window(self, stream_id: int) -> None:
        """Stop replenishing a stream's receive window; nothing if it is no more."""
        if stream_id in self._streams:
            self._streams[stream_id].held = True

    def release_window(self, stream_id: int) -> None:
        """Replenish a stream's receive window again, also for what has arrived meanwhile."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.held:
            stream.held = False
            if not stream.remote_ended:
                self._replenish_window(stream_id, stream)

    def ping(self) -> None:
        """Send PING; whatever arrives next answers it."""
        self._out += encode_frame(Kind.PING, 0, 0, b"orchy-ok")

    def send_goaway(self, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """Send GOAWAY: refuse new streams, finish existing ones (section 6.8)."""
        if self._goaway_stream_id is None:  # a later GOAWAY must not name a higher stream
            self._goaway_stream_id = self._highest_peer_id
        self._out += encode_goaway(self._goaway_stream_id, code)

    def reset_flood_counts(self) -> None:
        """Start counting a flood from zero."""
        self._flood.reset()

    def _reset(self, stream_id: int, code: ErrorCode) -> None:
        self._out += encode_reset(stream_id, code)
        self._locally_reset.add(stream_id)

    def _end_local(self, stream_id: int) -> None:
        stream = self._streams[stream_id]
        stream.local_ended = True
        if stream.remote_ended:
            self._remove(stream_id)

    def _remove(self, stream_id: int) -> None:
        if self._streams.pop(stream_id, None) is not None and stream_id % 2 == self._is_server:
            self._peer_streams -= 1

    # In.

    def receive(self, data: bytes | bytearray) -> list[Event]:
        """What arrived, as events. Raises ProtocolError; then `data_to_send` has the GOAWAY that says so."""
        events: list[Event] = []
        try:
            for kind, flags, stream_id, payload in self._frames.read(data):
                handler = self._handlers.get(kind)
                if handler is None:  # an extension that we do not know (section 5.5)
                    self._flood.count_idle_frame()
                    continue
                try:
                    handler(flags, stream_id, payload, events)
                except StreamError as error:
                    self._fail_stream(error, events)
        except ProtocolError as error:
            self.send_goaway(error.code)
            raise
        return events

    def _fail_stream(self, error: StreamError, events: list[Event]) -> None:
        self._flood.count_reset()
        if error.stream_id in self._streams:
            self.reset(error.stream_id, error.code)
            events.append(StreamReset(error.stream_id, error.code, str(error)))
        elif self._is_idle(error.stream_id):  # which can't be reset (section 6.4)
            raise ProtocolError(error.code, str(error))
        else:
            self._reset(error.stream_id, error.code)

    def _is_idle(self, stream_id: int) -> bool:
        """Whether a stream was never opened."""
        if stream_id % 2 == self._is_server:
            return stream_id > self._highest_peer_id
        return stream_id >= self._next_id

    def _check_stream(self, stream_id: int, kind: Kind) -> None:
        if not stream_id or self._is_idle(stream_id):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"{kind.name} on stream {stream_id}, which is not open")

    def _on_data(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        self._check_stream(stream_id, Kind.DATA)
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "more bytes than the window allows")
        if self._receive_window < self._window_bytes // 2:
            self._out += encode_window_update(0, self._window_bytes - self._receive_window)
            self._receive_window = self._window_bytes
        stream = self._streams.get(stream_id)
        if stream is None:
            if stream_id in self._locally_reset:
                self._flood.count_idle_frame()
                return
            raise StreamError(stream_id, ErrorCode.STREAM_CLOSED, "DATA on a stream that is closed")
        if stream.remote_ended or not stream.headers_received:
            code = ErrorCode.STREAM_CLOSED if stream.remote_ended else ErrorCode.PROTOCOL_ERROR
            raise StreamError(stream_id, code, "DATA where none may be")
        data = unpad(flags, payload)
        ended = bool(flags & Flag.END_STREAM)
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise StreamError(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "more bytes than the stream's window allows")
        if stream.bytes_expected is not None:
            stream.receive_body(len(data), ended=ended)
        if len(data) < DATA_BYTES_MIN and not ended:
            self._flood.count_idle_frame()
        if ended:
            self._end_remote(stream_id, stream)
        elif not stream.held:
            self._replenish_window(stream_id, stream)
        events.append(DataReceived(stream_id, data, ended))

    def _replenish_window(self, stream_id: int, stream: Stream) -> None:
        if stream.receive_window < self._stream_window_bytes // 2:
            self._out += encode_window_update(stream_id, self._stream_window_bytes - stream.receive_window)
            stream.receive_window = self._stream_window_bytes

    def _end_remote(self, stream_id: int, stream: Stream) -> None:
        stream.remote_ended = True
        if stream.local_ended:
            self._remove(stream_id)

    def _on_headers(self, flags: int, stream_id: int, block: bytes, events: list[Event]) -> None:
        headers = self._headers.read(block, of_requests=self._is_server)  # always: the table must follow
        ended = bool(flags & Flag.END_STREAM)
        stream = self._streams.get(stream_id)
        if stream is None:
            stream = self._open_remote(stream_id)
            if stream is None:
                return
        if flags & DEPENDS_ON_ITSELF:
            raise StreamError(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
        if stream.remote_ended:
            raise StreamError(stream_id, ErrorCode.STREAM_CLOSED, "HEADERS after the end")
        fields = headers.fields
        flaw = headers.flaw or message_flaw(
            fields, trailers=stream.headers_received, ended=ended, of_request=self._is_server
        )
        if flaw:
            raise StreamError(stream_id, ErrorCode.PROTOCOL_ERROR, flaw)
        if not stream.headers_received and fields.get(":status", "2")[0] == "1":
            self._flood.count_idle_frame()
            return  # an interim response: the one that counts comes later
        stream.receive_headers(fields, ended=ended)
        if ended:
            self._end_remote(stream_id, stream)
        events.append(HeadersReceived(stream_id, headers, ended))

    def _open_remote(self, stream_id: int) -> Stream | None:
        """A stream that the peer opens; None for one that we reset before its headers arrived."""
        if stream_id in self._locally_reset:
            self._flood.count_idle_frame()
            return None
        if not self._is_server and not self._is_idle(stream_id):
            raise StreamError(stream_id, ErrorCode.STREAM_CLOSED, "HEADERS on a stream that is closed")
        if not self._is_server or stream_id % 2 == 0:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"stream {stream_id} is not the peer's to open")
        if stream_id <= self._highest_peer_id:
            raise ProtocolError(ErrorCode.STREAM_CLOSED, f"stream {stream_id} is closed")
        self._highest_peer_id = stream_id
        if self._peer_streams >= self._limits.streams_max:
            raise StreamError(stream_id, ErrorCode.REFUSED_STREAM, "too many streams")
        self._peer_streams += 1
        stream = self._streams[stream_id] = Stream(stream_id, self.peer.window_bytes, self._stream_window_bytes)
        return stream

    def _on_priority(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if not stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        self._flood.count_idle_frame()
        if len(payload) != 5:
            raise StreamError(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY of a wrong length")
        if decode_number(payload) == stream_id:
            raise StreamError(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")

    def _on_reset(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        self._check_stream(stream_id, Kind.RST_STREAM)
        if len(payload) != 4:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of a wrong length")
        self._flood.count_reset()
        if stream_id in self._streams:
            self._remove(stream_id)
            events.append(StreamReset(stream_id, int.from_bytes(payload, "big")))

    def _on_settings(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & Flag.ACK:
            if payload:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement with settings in it")
            self._flood.count_idle_frame()
            return
        self._flood.count_settings(len(payload) // SETTING_BYTES, len(self._streams))
        more = self.peer.take(payload, of_server=not self._is_server)
        for stream in self._streams.values():
            stream.send_window += more
            if stream.send_window > WINDOW_BYTES_LIMIT:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a window that is too large")
        self._out += encode_frame(Kind.SETTINGS, Flag.ACK, 0)
        events.append(SettingsReceived())

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, which nobody allowed")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "PING of a wrong length")
        self._flood.count_idle_frame()
        if not flags & Flag.ACK:
            self._out += encode_frame(Kind.PING, Flag.ACK, 0, payload)

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of a wrong length")
        self._flood.count_idle_frame()
        events.append(GoingAway(decode_number(payload), int.from_bytes(payload[4:8], "big")))

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong length")
        self._flood.count_window_update()
        more = decode_number(payload)
        if not stream_id:
            if not more:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            self._send_window += more
            if self._send_window > WINDOW_BYTES_LIMIT:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a window that is too large")
            events.append(WindowOpened(0))
            return
        self._check_stream(stream_id, Kind.WINDOW_UPDATE)
        if not more:
            raise StreamError(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        stream = self._streams.get(stream_id)
        if stream is not None:  # it may have been closed meanwhile
            stream.send_window += more
            if stream.send_window > WINDOW_BYTES_LIMIT:
                raise StreamError(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "a window that is too large")
            events.append(WindowOpened(stream_id))
