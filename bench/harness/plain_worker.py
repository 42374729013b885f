"""A cheap worker that uses only Poll and Push, and does nothing.

`python -m bench.harness.plain_worker HOST:PORT ACTION ...`.

It stands for workers in other languages that have a fast gRPC library: polls of 100, one Push for each result, up to
64 of them in flight. To cost as little as those do, it encodes its headers once and parses only what it needs of the
responses. To a server it looks like any gRPC client.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections import deque
from collections.abc import Callable

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.framing import frame
from orchy.rpc.http2.frames import Flag, Kind, Setting, encode_frame, encode_settings, encode_window_update
from orchy.rpc.http2.headers import encode_block

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
POLL_BATCH, POLL_WAIT_MS = 100, 10_000
PUSHES_MAX = 64
#: While more results than this wait to be pushed, it does not poll.
HELD_MAX = 256
WINDOW_BYTES = 1 << 30
FIRST_WINDOW_BYTES = 65_535
RECEIVE_BYTES = 1 << 18
FRAME_HEAD = struct.Struct(">HBBBL")

Done = Callable[[bytes], None]


class PlainWorker:
    """One connection, served by one loop."""

    def __init__(self, address: str, actions: list[str]) -> None:
        host, _, port = address.rpartition(":")
        self._authority = address
        self._actions = actions
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._blocks: dict[str, bytes] = {}
        self._calls: dict[int, tuple[Done, bytearray]] = {}
        self._next_stream = 1
        self._window_bytes = FIRST_WINDOW_BYTES
        self._received_bytes = 0
        self._out = [PREFACE, encode_settings({Setting.INITIAL_WINDOW_SIZE: WINDOW_BYTES})]
        self._out.append(encode_window_update(0, WINDOW_BYTES))
        self._results: deque[bytes] = deque()
        self._pushes = 0
        self._polling: set[str] = set()

    def run(self) -> None:
        """Run until the server closes the connection."""
        for name in self._actions:
            definition = pb.ActionDefinition(name=name, retryCount=1, timeoutSeconds=60)
            self._call("SaveActionDefinition", definition.SerializeToString(), lambda _: None)
        rest = b""
        while True:
            self._make_calls()
            if self._out:
                self._socket.sendall(b"".join(self._out))
                self._out.clear()
            data = self._socket.recv(RECEIVE_BYTES)
            if not data:
                return
            rest = self._read(rest + data)

    def _make_calls(self) -> None:
        """Push the results that wait, and poll for each action while there is room for more."""
        while self._results and self._pushes < PUSHES_MAX and self._window_bytes > len(self._results[0]) + 5:
            self._pushes += 1
            self._call("Push", self._results.popleft(), self._pushed)
        for name in self._actions:
            if name not in self._polling and len(self._results) < HELD_MAX:
                self._polling.add(name)
                request = pb.ActionPollRequest(actionType=name, batchSize=POLL_BATCH, waitMillis=POLL_WAIT_MS)
                self._call("Poll", request.SerializeToString(), lambda body, name=name: self._polled(name, body))

    def _call(self, method: str, message: bytes, done: Done) -> None:
        block = self._blocks.get(method)
        if block is None:
            headers = [(":method", "POST"), (":scheme", "http"), (":authority", self._authority)]
            headers += [(":path", f"/ActionService/{method}"), ("te", "trailers")]
            block = self._blocks[method] = encode_block([*headers, ("content-type", "application/grpc")])
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        data = frame(message)
        self._window_bytes -= len(data)
        self._calls[stream] = done, bytearray()
        self._out.append(encode_frame(Kind.HEADERS, Flag.END_HEADERS, stream, block))
        self._out.append(encode_frame(Kind.DATA, Flag.END_STREAM, stream, data))

    def _pushed(self, body: bytes) -> None:
        if not body:
            raise SystemExit("a Push was refused")
        self._pushes -= 1

    def _polled(self, name: str, body: bytes) -> None:
        self._polling.discard(name)
        for action in pb.Actions.FromString(body[5:]).actions:
            result = pb.ActionResult(
                workflowName=action.workflowName,
                actionName=action.actionName,
                flowId=action.flowId,
                actionId=action.actionId,
                retryCount=action.retryCount,
                workerId="bench",
            )
            self._results.append(result.SerializeToString())

    def _read(self, data: bytes) -> bytes:
        """Handle all complete frames; return the rest of `data`."""
        at = 0
        while len(data) - at >= 9:
            high, low, kind, flags, stream = FRAME_HEAD.unpack_from(data, at)
            end = at + 9 + (high << 8 | low)
            if end > len(data):
                break
            self._handle(kind, flags, stream, data[at + 9 : end])
            at = end
        return data[at:]

    def _handle(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == Kind.DATA:
            self._calls[stream][1].extend(payload)
            self._received_bytes += len(payload)
            if self._received_bytes > WINDOW_BYTES // 2:
                self._out.append(encode_window_update(0, self._received_bytes))
                self._received_bytes = 0
        elif kind == Kind.WINDOW_UPDATE and stream == 0:
            self._window_bytes += int.from_bytes(payload, "big")
        elif kind == Kind.SETTINGS and not flags & Flag.ACK:
            self._out.append(encode_frame(Kind.SETTINGS, Flag.ACK, 0))
        elif kind == Kind.PING and not flags & Flag.ACK:
            self._out.append(encode_frame(Kind.PING, Flag.ACK, 0, payload))
        elif kind == Kind.RST_STREAM:
            raise SystemExit("the server broke off a call")
        if kind in (Kind.DATA, Kind.HEADERS) and flags & Flag.END_STREAM:
            done, body = self._calls.pop(stream)
            done(bytes(body))


if __name__ == "__main__":
    PlainWorker(sys.argv[1], sys.argv[2:]).run()
