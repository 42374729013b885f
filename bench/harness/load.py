"""Starts over REST, one flow a request, on a few connections; as cheap for the client as possible."""

from __future__ import annotations

import json

import trio

from bench.harness.processes import Server

CONNECTIONS = 16
READ_BYTES = 65_536


def start_one_by_one(server: Server, name: str, count: int) -> None:
    """Start `count` flows. Raises SystemExit if one is refused."""
    body = json.dumps({"name": name, "input": {}}).encode()
    head = "POST /flow/execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    left = count

    async def client() -> None:
        nonlocal left
        async with await trio.open_tcp_stream("127.0.0.1", server.http_port) as stream:
            while left > 0:
                left -= 1
                await stream.send_all(request)
                await _receive_answer(stream)

    async def run_clients() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS):
                nursery.start_soon(client)

    trio.run(run_clients)


async def _receive_answer(stream: trio.SocketStream) -> None:
    got = b""
    while True:
        got += await stream.receive_some(READ_BYTES)
        head, end, body = got.partition(b"\r\n\r\n")
        if end:
            fields = head.lower().split(b"\r\n")
            length = next(int(field[15:]) for field in fields if field.startswith(b"content-length:"))
            if len(body) >= length:
                if b" 20" not in fields[0]:
                    raise SystemExit(f"a start was refused: {got.decode()}")
                return
