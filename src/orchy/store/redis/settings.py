"""How to reach a Redis, with the limits and timing of its clients."""

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
class RedisLimits:
    """What a client holds at most.

    `commands_max`: commands of a connection that are queued or await a reply; further callers wait.
    `write_bytes_max`: a write takes no further command once it has this many bytes. `read_bytes_max`: a read's buffer.
    `attempts_max`: how often a command is sent (redirected or repeated) before it is given up.
    """

    commands_max: int = 10_000
    write_bytes_max: int = 256 * 1024
    read_bytes_max: int = 256 * 1024
    attempts_max: int = 8


@attrs.frozen
class RedisTiming:
    """When a client tries again.

    `backoff_min_seconds`, `backoff_max_seconds`: the bounds of the exponential backoff between two connections.
    `watch_seconds`: how often a connection looks for overdue replies. `retry_seconds`: the pause before a command is
    sent again to a server that is not ready.
    """

    backoff_min_seconds: float = 0.05
    backoff_max_seconds: float = 2.0
    watch_seconds: float = 0.25
    retry_seconds: float = 0.1


@attrs.frozen
class RedisSettings:
    """Several addresses, or one of a server in cluster mode, are a Redis Cluster.

    `command_timeout_seconds` bounds the wait for a reply, and how long a command waits for a connection.
    """

    addresses: tuple[Address, ...]
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    connect_timeout_seconds: float = 2.0
    command_timeout_seconds: float = 5.0
    limits: RedisLimits = RedisLimits()
    timing: RedisTiming = RedisTiming()
