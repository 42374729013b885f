"""hypercorn's TCP connection, with what it does for each request made cheaper. The protocol stays hypercorn's.

hypercorn 0.17 writes head, body and end of an answer one after the other, starts and cancels a task for the time that a
client may be idle, and makes a time-out for each read. Here an answer leaves in one write, when it is whole and without
a turn of the scheduler, and one task for each connection looks at the time. The socket of a client that has gone is let
go of at once, where hypercorn waits until its keep-alive time is over.
"""

from __future__ import annotations

from typing import Any

import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer

from orchy.sockets import PromptStream

#: An answer that is longer leaves in parts.
GATHERED_BYTES_MAX = 64 * 1024
#: How long a client may take for what is sent to it.
SEND_SECONDS = 60.0


class TcpConnection(TCPServer):
    """One client's."""

    def __init__(self, app: Any, config: Any, context: Any, state: Any, stream: trio.SocketStream) -> None:
        self._prompt = PromptStream(stream)
        super().__init__(app, config, context, state, self._prompt)
        self.idle_task = _NoTask()  # type: ignore[assignment]
        self._unsent = bytearray()
        self._heard_at = trio.current_time()
        self._quiet_since: float | None = self._heard_at

    async def run(self) -> None:
        """Serve it; returns when it is closed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            await super().run()
            nursery.cancel_scope.cancel()

    async def protocol_send(self, event: Event) -> None:
        """What the protocol wants done. An answer over HTTP/1 is whole when the connection is idle again, or closed."""
        if isinstance(event, RawData):
            self._unsent += event.data
            if len(self._unsent) > GATHERED_BYTES_MAX or not isinstance(self.protocol.protocol, H11Protocol):
                await self._flush()
            return
        await self._flush()
        if isinstance(event, Updated):
            self._quiet_since = trio.current_time() if event.idle else None
        else:
            await super().protocol_send(event)

    async def _flush(self) -> None:
        del self._unsent[: self._prompt.send_at_once(self._unsent)]
        if not self._unsent:
            return
        async with self.send_lock:
            data = bytes(self._unsent)
            self._unsent.clear()
            try:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + SEND_SECONDS) as scope:
                    await self._prompt.send_all(data)
                gone = scope.cancelled_caught
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                gone = True
        if gone:
            await trio.aclose_forcefully(self._prompt)
            await self.protocol.handle(Closed())

    async def _read_data(self) -> None:
        while True:
            await self._flush()  # an interim answer, which the client waits for
            try:
                data = await self._prompt.receive_some(MAX_RECV)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                break
            self._heard_at = trio.current_time()
            await self.protocol.handle(RawData(data))
            if not data:
                break
        await self.protocol.handle(Closed())

    async def _watch(self) -> None:
        """Close it when nothing, or no request, came for too long; when the server stops, as soon as it is quiet."""
        stopping = self.context.terminated
        while True:
            until = self._heard_at + (self.config.read_timeout or float("inf"))
            if self._quiet_since is not None:
                until = min(until, self._quiet_since + self.config.keep_alive_timeout)
                if stopping.is_set():
                    break
            if trio.current_time() >= until:
                break
            if stopping.is_set():
                await trio.sleep_until(until)
            else:
                with trio.move_on_at(until):
                    await stopping.wait()
        with trio.CancelScope(shield=True):
            await self._initiate_server_close()


class _NoTask:
    """In the place of the task that hypercorn starts whenever a connection is idle."""

    async def restart(self, task_group: object, action: object) -> None:
        """Nothing: `_watch` looks."""

    async def stop(self) -> None:
        """Nothing."""
