"""The server and worker processes of the demo, which end with it."""

from __future__ import annotations

import json
import random
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from subprocess import PIPE, STDOUT
from typing import Any

import attrs
import trio

from orchy.commands.demo.rest import RestClient

READY_SECONDS = 30.0
STOP_SECONDS = 15.0
PORTS_TRIED_MAX = 1_000


def free_port() -> int:
    """A free port below the ephemeral range, so that no outgoing connection takes it before it is used.

    The port 10,000 above it (the bus of a Redis Cluster) is below that range too. Raises OSError.
    """
    for _ in range(PORTS_TRIED_MAX):
        port = random.SystemRandom().randrange(10_000, 22_000)  # independent of seeds, so that processes differ
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(type=kind) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port
    raise OSError("there is no free port")


@asynccontextmanager
async def _process(command: Sequence[str], on_line: Callable[[str], None]) -> AsyncIterator[trio.Process]:
    """A process whose output goes to `on_line`, line by line; at the end SIGTERM stops it, or SIGKILL if need be."""
    process = await trio.lowlevel.open_process(list(command), stdout=PIPE, stderr=STDOUT, start_new_session=True)

    async def read() -> None:
        assert process.stdout is not None
        rest = b""
        while data := await process.stdout.receive_some():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                on_line(line.decode("utf-8", "replace"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        try:
            yield process
        finally:
            with trio.CancelScope(shield=True):
                if process.poll() is None:
                    process.terminate()
                    with trio.move_on_after(STOP_SECONDS):
                        await process.wait()
                    if process.poll() is None:
                        process.kill()
                        await process.wait()
            nursery.cancel_scope.cancel()


@attrs.frozen
class DemoServer:
    """A running server, and its addresses."""

    node: str
    rest: RestClient
    workers: str
    gossip: str
    process: trio.Process


@asynccontextmanager
async def open_server(flags: Sequence[str], node: str) -> AsyncIterator[DemoServer]:
    """A server on free ports. Raises RuntimeError if it does not start."""
    http, grpc, gossip = free_port(), free_port(), free_port()
    lines: list[str] = []
    command = [sys.executable, "-m", "orchy", "--http-port", str(http), "--grpc-port", str(grpc)]
    command += ["--bind-addr", f"127.0.0.1:{gossip}", "--node-name", node, *flags]
    async with _process(command, lines.append) as process:
        rest = RestClient(f"127.0.0.1:{http}")
        ready = False
        with trio.move_on_after(READY_SECONDS):
            while not ready and process.poll() is None:
                try:
                    await rest.get("/health/ready")
                    ready = True
                except (OSError, RuntimeError):
                    await trio.sleep(0.05)
        if not ready:
            raise RuntimeError("the server did not start:\n" + "\n".join(lines[-5:]))
        yield DemoServer(node, rest, f"127.0.0.1:{grpc}", f"127.0.0.1:{gossip}", process)


@asynccontextmanager
async def open_worker(server: str, on_sent: Callable[[Any], None]) -> AsyncIterator[None]:
    """The worker of `orchy.commands.demo.worker`; `on_sent` gets each message that it was asked to send."""

    def on_line(line: str) -> None:
        if line.startswith("{"):
            on_sent(json.loads(line))

    async with _process([sys.executable, "-m", "orchy.commands.demo.worker", server], on_line):
        yield
