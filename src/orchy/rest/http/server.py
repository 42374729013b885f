"""Accepts REST's connections and ends them. Whatever goes wrong in one of them ends that one only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import trio

from orchy.rest.http.admission import Admission
from orchy.rest.http.connection import Application, Connection, Observer, ServerContext
from orchy.rest.http.limits import DEFAULT_LIMITS, DEFAULT_TIMING, Limits, Timing
from orchy.rest.http.refusal import Refusal
from orchy.rest.middleware.guard import Guard
from orchy.runtime.open_files import share_of_listener
from orchy.runtime.sockets import PromptStream
from orchy.runtime.token_bucket import TokenBucket

log = logging.getLogger(__name__)


class RestServer:
    """An ASGI application behind HTTP/1.1."""

    def __init__(
        self,
        application: Application,
        guard: Guard,
        observer: Observer,
        limits: Limits = DEFAULT_LIMITS,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        self._admission = Admission(partial(share_of_listener, limits.connections_max), limits.held_bytes_max)
        self._observer = observer
        self._timing = timing
        per_second = limits.requests_per_second
        bucket = TokenBucket(per_second, per_second) if per_second else None
        self._context = ServerContext(application, guard, self._admission, bucket, observer, limits, timing)
        self._open: set[Connection] = set()
        self._stopping = False

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._admission.connections

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
                except OSError as error:  # mostly: there are no more files
                    log.warning("a connection to the REST port could not be accepted: %s", error)
                    self._admission.evict_one()
                    await trio.sleep(self._timing.accept_retry_seconds)
                else:
                    connections.start_soon(self._serve_one, accepted)

    async def _serve_one(self, accepted: trio.SocketStream) -> None:
        stream = PromptStream(accepted)
        connection = Connection(self._context, stream)
        try:
            if self._stopping:
                return
            if not self._admission.admit(connection):
                self._observer.request_refused("crowd")
                refusal = Refusal(503, "crowd", "this node has too many connections, try again")
                stream.send_at_once(refusal.closing_response())
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
            self._admission.remove(connection)
            await trio.aclose_forcefully(stream)
