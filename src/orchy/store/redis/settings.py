"""How to reach a Redis: frozen settings."""

from __future__ import annotations

import ssl
from typing import TypeAlias

import attrs


@attrs.frozen
class TcpAddress:
    """Host name or IP address, and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class UnixAddress:
    """The path of a unix socket."""

    path: str

    def __str__(self) -> str:
        return self.path


Address: TypeAlias = TcpAddress | UnixAddress


@attrs.frozen
class RedisSettings:
    """Several addresses, or one of a server in cluster mode, are a Redis Cluster.

    `command_timeout_seconds` bounds the wait for an answer, and how long a command waits for a connection.
    """

    addresses: tuple[Address, ...]
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    connect_timeout_seconds: float = 2.0
    command_timeout_seconds: float = 5.0
