"""A proxy between the nodes and Redis: `python -m tests.faults.proxy CONTROL PORT...`.

Each node has a port of its own. CONTROL is a JSON file, read again every CONTROL_LOOK_SECONDS: `target` is Redis's
port, `delay_seconds` how long each answer is held back, `cut` the ports through which nothing passes. As on a network
that is cut, what was sent meanwhile arrives when the cut ends, if both sides still have the connection. Another target
closes all connections.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

CONTROL_LOOK_SECONDS = 0.02
CHUNK_BYTES = 65_536
#: Chunks under way in one direction of a connection; more have to wait, as in a socket's buffer.
CHUNKS_MAX = 1_000

_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Control:
    """The current content of the control file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scopes: set[trio.CancelScope] = set()
        self.settings: dict[str, Any] = {}
        self.read()

    def read(self) -> None:
        """Read the control file."""
        settings = json.loads(self._path.read_text())
        if self.settings and settings["target"] != self.settings["target"]:
            for scope in self._scopes:
                scope.cancel()
        self.settings = settings

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(CONTROL_LOOK_SECONDS)
            self.read()

    async def passes(self, port: int) -> None:
        """Returns when connections are not cut."""
        while port in self.settings.get("cut", ()):
            await trio.sleep(CONTROL_LOOK_SECONDS)

    async def serve(self, port: int, client: trio.SocketStream) -> None:
        """One connection of a node, until either side ends it."""
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await self.passes(port)
                redis = await trio.open_tcp_stream("127.0.0.1", self.settings["target"])
                async with client, redis, trio.open_nursery() as nursery:
                    nursery.start_soon(self._pipe, port, client, redis, scope, False)
                    nursery.start_soon(self._pipe, port, redis, client, scope, True)
            except _GONE:
                pass
            finally:
                self._scopes.discard(scope)

    async def _pipe(
        self,
        port: int,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        scope: trio.CancelScope,
        delayed: bool,
    ) -> None:
        sender, receiver = trio.open_memory_channel[tuple[float, bytes]](CHUNKS_MAX)

        async def write() -> None:
            async for due, data in receiver:
                if due > time.monotonic():
                    await trio.sleep(due - time.monotonic())
                await self.passes(port)
                await sink.send_all(data)
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._guarded, write, scope)
            try:
                while data := await source.receive_some(CHUNK_BYTES):
                    delay_seconds = self.settings.get("delay_seconds", 0.0) if delayed else 0.0
                    await sender.send((time.monotonic() + delay_seconds, data))
            except _GONE:
                pass
            sender.close()

    async def _guarded(self, write: Callable[[], Any], scope: trio.CancelScope) -> None:
        try:
            await write()
        except _GONE:
            scope.cancel()


async def main(path: Path, ports: list[int]) -> None:
    """Until SIGTERM."""
    control = Control(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(control.run)
        for port in ports:
            listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, partial(control.serve, port), listeners)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), [int(port) for port in sys.argv[2:]])
