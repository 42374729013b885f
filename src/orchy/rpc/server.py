"""The worker door: listeners on the host asked for, and a connection for each client."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NoReturn

import trio
from purerpc import Service, Servicer

from orchy.errors import StartupError
from orchy.rpc.connection import Connection

CONNECTIONS_MAX = 20_000

log = logging.getLogger(__name__)


class RpcServer:
    """The connections that are open."""

    def __init__(self, servicers: Sequence[Servicer]) -> None:
        services: list[Service] = [servicer.service for servicer in servicers]
        self._services = {service.name: service for service in services}
        self._connections: set[Connection] = set()
        self._draining = False

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def serve(self, listeners: Sequence[trio.SocketListener]) -> NoReturn:
        """Serve until cancelled."""
        await trio.serve_listeners(self._serve_one, list(listeners))

    async def drain(self) -> None:
        """Let the calls under way end and take no more; returns when all have. Callers bound it."""
        self._draining = True
        async with trio.open_nursery() as nursery:
            for connection in list(self._connections):
                connection.drain()
                nursery.start_soon(connection.quiet)

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        if len(self._connections) >= CONNECTIONS_MAX or self._draining:
            await trio.aclose_forcefully(stream)
            return
        connection = Connection(stream, self._services)
        self._connections.add(connection)
        try:
            await connection.serve()
        except* OSError as group:
            log.debug("a worker's connection ended: %s", group.exceptions[0])
        finally:
            self._connections.discard(connection)
            await trio.aclose_forcefully(stream)


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


