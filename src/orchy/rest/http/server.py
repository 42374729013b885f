"""Accepts REST's connections, and ends them. Whatever happens in one of them ends that one only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import trio

from orchy.rest.http.connection import Application, Connection, Door, Observer
from orchy.rest.http.refusal import Refusal
from orchy.rest.http.room import Bucket, Room
from orchy.rest.middleware.guard import Guard
from orchy.runtime.open_files import share_of_listener
from orchy.runtime.sockets import PromptStream

#: Fewer if fewer files may be open: see openfiles.
CONNECTIONS_MAX = 10_000
#: Bytes of bodies that are not answered yet, and of answers that are not taken; more where one body may be so large.
BYTES_MAX = 128 * 2**20
BODIES_MIN = 2
REQUESTS_PER_SECOND = 10_000
#: After accepting failed, as there are no more files for example.
ACCEPT_AGAIN_SECONDS = 0.05

log = logging.getLogger(__name__)


class RestServer:
    """`body_bytes_max`: of one request; `requests_per_second`: of all clients together, 0 for any number."""

    def __init__(
        self,
        application: Application,
        guard: Guard,
        observer: Observer,
        body_bytes_max: int,
        requests_per_second: int = REQUESTS_PER_SECOND,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self._room = Room(partial(share_of_listener, CONNECTIONS_MAX), max(bytes_max, BODIES_MIN * body_bytes_max))
        self._observer = observer
        self._door = Door(application, guard, self._room, Bucket(requests_per_second), observer, body_bytes_max)
        self._open: set[Connection] = set()
        self._stopping = False

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._room.connections

    async def serve(self, listeners: Sequence[trio.SocketListener], shutdown: trio.Event, drain_seconds: float) -> None:
        """Serve until `shutdown`; requests under way may then end, within `drain_seconds`. Closes the listeners."""
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as acceptors:
                for listener in listeners:
                    acceptors.start_soon(self._accept_all, listener, connections)
                await shutdown.wait()
                acceptors.cancel_scope.cancel()
            self._stopping = True
            connections.cancel_scope.deadline = trio.current_time() + drain_seconds
            for connection in list(self._open):
                connection.stop()

    async def _accept_all(self, listener: trio.SocketListener, connections: trio.Nursery) -> None:
        async with listener:
            while True:
                try:
                    accepted = await listener.accept()
                except OSError as error:
                    log.warning("a connection to the REST port could not be accepted: %s", error)
                    self._room.make_room()
                    await trio.sleep(ACCEPT_AGAIN_SECONDS)
                else:
                    connections.start_soon(self._serve_one, accepted)

    async def _serve_one(self, accepted: trio.SocketStream) -> None:
        stream = PromptStream(accepted)
        connection = Connection(self._door, stream)
        try:
            if self._stopping:
                return
            if not self._room.enter(connection):
                self._observer.request_refused("crowd")
                stream.send_at_once(
                    Refusal(503, "crowd", "this node has too many connections, try again").last_answer()
                )
                return
            self._open.add(connection)
            await connection.serve()
        except* OSError as group:
            log.debug("a connection to the REST port ended: %s", group.exceptions[0])
        except* Exception as group:
            self._observer.connection_failed()
            log.error("nobody foresaw how this connection ended: %s", connection.about, exc_info=group)
        finally:
            self._open.discard(connection)
            self._room.leave(connection)
            await trio.aclose_forcefully(stream)
