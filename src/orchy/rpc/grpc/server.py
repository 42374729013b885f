"""The gRPC server: its listeners, and a connection for each client."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence

import trio
from purerpc import Servicer

from orchy.errors import StartupError
from orchy.rpc.grpc import tls
from orchy.rpc.grpc.call import BufferQuota
from orchy.rpc.grpc.connection import Connection
from orchy.rpc.grpc.limits import SERVER_LIMITS, ServerLimits
from orchy.rpc.grpc.services import methods_of
from orchy.rpc.grpc.sniffing import SNIFFED_BYTES_MAX, SniffedProtocol, reject, reply_on_tls_port, sniff_client
from orchy.runtime.sockets import PromptStream

log = logging.getLogger(__name__)


class RpcServer:
    """The open connections; inside TLS with a `context`."""

    def __init__(
        self,
        servicers: Sequence[Servicer],
        limits: ServerLimits = SERVER_LIMITS,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._methods = methods_of(servicers)
        self._connections: set[Connection] = set()
        self._limits = limits
        self._context = context
        self._handshakes = 0
        self._quota = BufferQuota()
        self._full = False
        self._accepting = trio.CancelScope()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled, or until `drain` is done. Closes the listeners."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            with self._accepting:
                await trio.serve_listeners(self._serve_one, list(listeners), handler_nursery=nursery)

    async def drain(self) -> None:
        """Accept no more connections, finish the calls under way, then close all. Callers bound it."""
        self._accepting.cancel()
        async with trio.open_nursery() as nursery:
            for connection in list(self._connections):
                nursery.start_soon(_drain_one, connection)

    async def _serve_one(self, accepted: trio.SocketStream) -> None:
        """Whatever goes wrong on one connection ends that connection, and not the server."""
        try:
            stream: trio.abc.Stream = accepted
            try:
                stream = prompt = PromptStream(accepted)
                await self._serve_stream(prompt)
            finally:
                await trio.aclose_forcefully(stream)
        except* OSError as group:
            log.debug("a worker's connection ended: %s", group.exceptions[0])
        except* Exception:
            log.exception("an error on a worker's connection that nobody foresaw")

    async def _serve_stream(self, stream: PromptStream) -> None:
        if self._accepting.cancel_called or self._is_full():
            return
        carrier = stream if self._context is None else await self._shake_hands(stream, self._context)
        if carrier is None or self._accepting.cancel_called:
            return
        who = stream.peer
        connection = Connection(carrier, self._methods, self._quota)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)
            if connection.foreign_protocol is not None:
                _log_foreign_protocol(connection.foreign_protocol, who, self._context is not None)

    async def _shake_hands(self, stream: PromptStream, context: ssl.SSLContext) -> trio.abc.Stream | None:
        """The stream inside TLS; None for a client that does not complete the handshake in time."""
        if self._handshakes >= self._limits.handshakes_max:
            return None
        self._handshakes += 1
        try:
            with trio.move_on_after(self._limits.handshake_seconds):
                first = await stream.peek(SNIFFED_BYTES_MAX)
                foreign_protocol = sniff_client(first)
                if not first or foreign_protocol is SniffedProtocol.TLS:
                    return await tls.accept(stream, context)
                _log_foreign_protocol(foreign_protocol, stream.peer, True)
                await reject(stream, reply_on_tls_port(foreign_protocol))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            log.debug("a worker's TLS handshake failed: %s", error.__cause__ or error)
        finally:
            self._handshakes -= 1
        return None

    def _is_full(self) -> bool:
        was, self._full = self._full, len(self._connections) + self._handshakes >= self._limits.connections_max
        if self._full and not was:
            log.warning("there are %d connections of workers: no more are taken", len(self._connections))
        return self._full


def _log_foreign_protocol(foreign_protocol: SniffedProtocol, who: str, has_tls: bool) -> None:
    """One line; the log limits how often it is written (`logs`)."""
    if has_tls and foreign_protocol is not SniffedProtocol.TLS:
        log.warning(
            "%s speaks %s without TLS to the port for workers, which has TLS: a worker gives tls=True there;"
            " REST is at --http-port",
            who,
            foreign_protocol,
        )
    elif foreign_protocol is SniffedProtocol.TLS:
        log.warning(
            "%s speaks TLS to the port for workers, which has none: a worker leaves tls out there, or this node is"
            " started with --grpc-tls-cert and --grpc-tls-key",
            who,
        )
    else:
        log.info("%s speaks %s to the port for workers, not gRPC: REST is at --http-port", who, foreign_protocol)


async def _drain_one(connection: Connection) -> None:
    connection.drain()
    await connection.wait_drained()
    connection.close()


async def open_listeners(host: str, port: int, flag: str) -> tuple[list[trio.SocketListener], int]:
    """Listen on a host, without SO_REUSEPORT, so that a port has one owner; (listeners, port: also when 0 was asked).

    Raises StartupError that names `flag`.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise StartupError(
            f"can't listen on {host}:{port}: {error.strerror or error}; is another server there? choose another {flag}"
        ) from None
    if port == 0 and len(listeners) > 1:  # one port for all of the host's addresses
        port = listeners[0].socket.getsockname()[1]
        for listener in listeners:
            await listener.aclose()
        return await open_listeners(host, port, flag)
    return listeners, listeners[0].socket.getsockname()[1]
