"""An HTTP client for the load: kept-alive connections, and calls that move to another node when one fails."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from typing import Any

import trio

CALL_SECONDS = 3.0
#: How long a node that did not answer is avoided, as a load balancer with health checks would.
SHUN_SECONDS = 1.0
AGAIN_SECONDS = 0.1

_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, EOFError, ValueError)


class Rest:
    """Calls to the nodes at these ports."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self._idle: dict[int, list[trio.SocketStream]] = {port: [] for port in ports}
        self._shunned: dict[int, float] = {}
        self._turn = itertools.count()

    async def ask(
        self, method: str, path: str, body: Any = None, *, on_send: Any = None, port: int | None = None
    ) -> tuple[int, Any]:
        """The status and JSON of an answer below 500, from any node or the one at `port`. Retries until it has one.

        `on_send` is called before each try.
        """
        only = port
        while True:
            port = only or self._choose()
            if on_send is not None:
                on_send()
            try:
                with trio.fail_after(CALL_SECONDS):
                    status, answer = await self._call(port, method, path, body)
            except (*_GONE, trio.TooSlowError):
                self._shunned[port] = trio.current_time() + SHUN_SECONDS
            else:
                if status < 500:
                    return status, answer
                if status != 503:
                    raise RuntimeError(f"{path}: {status} {answer}")
            await trio.sleep(random.uniform(AGAIN_SECONDS / 2, AGAIN_SECONDS))

    async def get_all(self, path: str) -> list[Any]:
        """The answers of all nodes that give one."""
        answers = []
        for port in self._ports:
            try:
                with trio.fail_after(CALL_SECONDS):
                    status, answer = await self._call(port, "GET", path, None)
            except (*_GONE, trio.TooSlowError):
                continue
            if status < 400:
                answers.append(answer)
        return answers

    def _choose(self) -> int:
        now = trio.current_time()
        good = [port for port in self._ports if self._shunned.get(port, 0) <= now] or self._ports
        return good[next(self._turn) % len(good)]

    async def _call(self, port: int, method: str, path: str, body: Any) -> tuple[int, Any]:
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n"
        request = f"{head}Content-Type: application/json\r\n\r\n".encode() + data
        idle = self._idle[port]
        while idle:  # a kept connection may have been closed meanwhile, without any fault of the node
            stream = idle.pop()
            try:
                return await self._exchange(port, stream, request)
            except _GONE:
                continue
        return await self._exchange(port, await trio.open_tcp_stream("127.0.0.1", port), request)

    async def _exchange(self, port: int, stream: trio.SocketStream, request: bytes) -> tuple[int, Any]:
        kept = False
        try:
            await stream.send_all(request)
            received = b""
            while (end := received.find(b"\r\n\r\n")) < 0:
                received += await _receive(stream)
            lines = received[:end].lower().split(b"\r\n")
            headers = dict(line.split(b": ", 1) for line in lines[1:])
            wanted = end + 4 + int(headers[b"content-length"])
            while len(received) < wanted:
                received += await _receive(stream)
            status = int(lines[0].split(b" ")[1])
            answer = json.loads(received[end + 4 :]) if received[end + 4 :] else None
            if headers.get(b"connection") != b"close":
                self._idle[port].append(stream)
                kept = True
            return status, answer
        finally:
            if not kept:
                await trio.aclose_forcefully(stream)


async def _receive(stream: trio.SocketStream) -> bytes:
    data = await stream.receive_some(65_536)
    if not data:
        raise EOFError("the node closed the connection")
    return bytes(data)
