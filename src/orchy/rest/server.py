"""Serves the application by hypercorn, on a socket of our own: a port has one owner, and one that is taken is told."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import hypercorn.trio.run
import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_hypercorn
from quart_trio import QuartTrio

from orchy.rest.tcp import TcpConnection

KEEP_ALIVE_SECONDS = 75
READ_TIMEOUT_SECONDS = 60


async def serve(
    app: QuartTrio, listeners: Sequence[trio.SocketListener], shutdown: trio.Event, drain_seconds: float
) -> None:
    """Serve on bound sockets until `shutdown`; requests under way may then end, within `drain_seconds`."""
    hypercorn.trio.run.TCPServer = TcpConnection  # type: ignore[attr-defined, assignment]
    config = Config()
    # hypercorn takes over a socket by its number, and closes it.
    config.bind = [f"fd://{listener.socket.detach()}" for listener in listeners]
    config.graceful_timeout = drain_seconds
    config.shutdown_timeout = drain_seconds
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.read_timeout = READ_TIMEOUT_SECONDS
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("orchy.rest.hypercorn")
    config.errorlog.setLevel(logging.WARNING)
    await serve_hypercorn(app, config, shutdown_trigger=shutdown.wait)
