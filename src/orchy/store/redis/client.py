"""The Redis client: one server, or the masters of a Redis Cluster, and what its errors mean.

Nothing is sent again that is not safe to repeat: a caller says with `safe` whether a command is. Safe or not, a command
that the server rejected without executing it (MOVED, ASK, TRYAGAIN, LOADING, NOSCRIPT) is redirected or repeated.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import hiredis
import trio
from redis.crc import key_slot

from orchy.errors import ConfigurationError, OutcomeUnknown, StoreError, StoreRefused, StoreUnavailable
from orchy.runtime.gather import gather
from orchy.runtime.nurseries import open_service_nursery
from orchy.store.redis.connection import Argument, Connection, ConnectionLost, pack
from orchy.store.redis.settings import Address, RedisSettings, TcpAddress

SLOTS = 16_384

_RETRYABLE = {"TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN"}
_REFUSALS = {
    "OOM": "Redis is out of memory (maxmemory): nothing was changed; raise maxmemory or shorten the retention",
    "READONLY": "this Redis is a replica and takes no writes: a fail-over may be under way",
    "MISCONF": "Redis can't write to its disk and takes no writes",
    "NOAUTH": "Redis wants a password: --redis-password",
    "WRONGPASS": "Redis does not take this user name and password",
    "NOPERM": "the Redis user lacks a right that Orchy needs",
    "NOREPLICAS": "Redis has too few replicas to take writes",
}


@attrs.frozen
class Script:
    """A Lua script; all its keys are in one slot of a cluster."""

    name: str
    source: str
    sha1: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "sha1", hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest())


class Redis:
    """Sends each command to the server that holds its key. Made by `open_redis`."""

    def __init__(self, settings: RedisSettings, nursery: trio.Nursery) -> None:
        self._settings = settings
        self._nursery = nursery
        self._connections: dict[Address, Connection] = {}
        self._slots: list[Connection] = []
        self._stale = False
        self._refreshing = trio.Lock()

    @property
    def is_cluster(self) -> bool:
        """Whether keys are spread over slots."""
        return bool(self._slots)

    @property
    def commands_total(self) -> int:
        """Commands handed to sockets so far, repeated ones included."""
        return sum(connection.commands_total for connection in self._connections.values())

    @property
    def reconnects_total(self) -> int:
        """How many times a connection was re-established."""
        return sum(max(0, connection.connections_total - 1) for connection in self._connections.values())

    async def execute(self, *command: Argument, key: bytes | None = None, safe: bool) -> Any:
        """One command; `key` selects the server in a cluster. Raises from StoreError."""
        return await self._send(pack(*command), key, safe, str(command[0]))

    async def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument], *, safe: bool) -> Any:
        """One script, by its digest; the text goes only to a server that does not know it. Raises from StoreError."""
        packed = pack("EVALSHA", script.sha1, len(keys), *keys, *args)
        reply = await self._send(packed, keys[0], safe, script.name, noscript=True)
        if isinstance(reply, _NoScript):
            packed = pack("EVAL", script.source, len(keys), *keys, *args)
            reply = await self._send(packed, keys[0], safe, script.name)
        return reply

    async def script_each(
        self, script: Script, calls: Sequence[tuple[Sequence[bytes], Sequence[Argument]]]
    ) -> list[Any | StoreError]:
        """One script with many sets of arguments; the calls are independent, and none is safe to repeat.

        Those for one server leave in one write. The reply of each, or its error.
        """
        head = ("EVALSHA", script.sha1, 1)
        waiting: dict[Connection, list[int]] = {}
        outcomes: list[Any | StoreError] = [None] * len(calls)
        for index, (keys, _) in enumerate(calls):
            try:
                waiting.setdefault(await self._connection_for(keys[0]), []).append(index)
            except StoreError as error:
                outcomes[index] = error

        async def send(connection: Connection) -> None:
            indexes = waiting[connection]
            replies = await connection.call_all([pack(*head, *calls[index][0], *calls[index][1]) for index in indexes])
            for index, reply in zip(indexes, replies, strict=True):
                outcomes[index] = reply

        if len(waiting) == 1:  # a single write needs no task
            await send(next(iter(waiting)))
        else:
            await gather(send, waiting)

        async def resolve(index: int) -> None:
            """Send again what the server rejected without executing it; translate a lost connection."""
            if isinstance(outcomes[index], ConnectionLost):
                self._stale = self.is_cluster
                outcomes[index] = OutcomeUnknown(f"{outcomes[index]} while {script.name} was under way")
            elif isinstance(outcomes[index], StoreUnavailable):
                self._stale = self.is_cluster
            elif isinstance(outcomes[index], hiredis.ReplyError):
                try:
                    outcomes[index] = await self.script(script, *calls[index], safe=False)
                except StoreError as error:
                    outcomes[index] = error

        await gather(resolve, [index for index, outcome in enumerate(outcomes) if isinstance(outcome, Exception)])
        return outcomes

    async def on_every_master(self, *command: Argument) -> dict[Address, Any]:
        """One safe command on each master; the replies by address."""
        if self._stale:
            await self._refresh()
        masters = list(dict.fromkeys(self._slots)) or [next(iter(self._connections.values()))]
        return {
            master.address: await self._send(pack(*command), None, True, str(command[0]), at=master)
            for master in masters
        }

    async def _send(
        self,
        packed: bytes,
        key: bytes | None,
        safe: bool,
        what: str,
        *,
        noscript: bool = False,
        at: Connection | None = None,
    ) -> Any:
        give_up_at = trio.current_time() + self._settings.command_timeout_seconds
        problem = "it did not answer"
        connection = at
        asking = False
        for _ in range(self._settings.limits.attempts_max):
            if connection is None:
                connection = await self._connection_for(key)
            try:
                if asking:
                    # In one write, so that no other command comes between them.
                    reply = await connection.call_pair(pack("ASKING"), packed)
                else:
                    reply = await connection.call(packed)
            except ConnectionLost as lost:
                self._stale = self.is_cluster
                if not safe:
                    raise OutcomeUnknown(f"{lost} while {what} was under way: it may have been done") from None
                problem, connection = str(lost), at
                if trio.current_time() >= give_up_at:
                    break
                continue
            except StoreUnavailable:
                self._stale = self.is_cluster
                raise
            if not isinstance(reply, hiredis.ReplyError):
                return reply
            asking = False
            text = str(reply)
            code = text.partition(" ")[0]
            if code == "NOSCRIPT" and noscript:
                return _NoScript()
            if code == "MOVED" and at is None:
                self._stale = True
                connection = self._connection_to(_parse_redirect(text, connection.address))
            elif code == "ASK" and at is None:
                asking = True
                connection = self._connection_to(_parse_redirect(text, connection.address))
            elif code in _RETRYABLE:
                problem, connection = text, at
                self._stale = self.is_cluster
                if trio.current_time() >= give_up_at:
                    break
                await trio.sleep(self._settings.timing.retry_seconds)
            else:
                if code == "READONLY":
                    connection.reset()
                    self._stale = self.is_cluster
                raise StoreRefused(f"{_REFUSALS.get(code, 'Redis refused ' + what)} ({text})")
        raise StoreUnavailable(f"Redis could not do {what}: {problem}")

    async def _connection_for(self, key: bytes | None) -> Connection:
        if self._stale:
            await self._refresh()
        if not self._slots or key is None:
            return next(iter(self._connections.values()))
        return self._slots[key_slot(key)]

    def _connection_to(self, address: Address) -> Connection:
        connection = self._connections.get(address)
        if connection is None:
            connection = self._connections[address] = Connection(address, self._settings)
            self._nursery.start_soon(connection.run)
        return connection

    async def discover(self) -> None:
        """Ask the first server that replies whether it is part of a cluster, and of which one.

        Raises StoreUnavailable when none replies, StoreRefused, ConfigurationError.
        """
        for address in self._settings.addresses:
            self._connection_to(address)
        first = next(iter(self._connections.values()))
        if len(self._settings.addresses) > 1:
            await self._refresh()
            return
        info = await self._send(pack("INFO", "cluster"), None, True, "INFO", at=first)
        if b"cluster_enabled:1" in info:
            await self._refresh()

    async def _refresh(self) -> None:
        """Ask again which master serves which slots."""
        if self._refreshing.locked():  # another task is refreshing: its result will do
            async with self._refreshing:
                return
        async with self._refreshing:
            problem: Exception = StoreUnavailable("no server of the Redis Cluster is known")
            for connection in list(self._connections.values()):
                try:
                    reply = await connection.call(pack("CLUSTER", "SLOTS"))
                except (ConnectionLost, StoreUnavailable) as error:
                    problem = error
                    continue
                if isinstance(reply, hiredis.ReplyError):
                    if "cluster support disabled" in str(reply):
                        raise ConfigurationError(
                            f"Redis at {connection.address} is not part of a Redis Cluster: give --redis-addr one"
                            " address, or those of a cluster"
                        )
                    problem = StoreRefused(str(reply))
                    continue
                slots: list[Connection | None] = [None] * SLOTS
                for first, last, (host, port, *_), *_ in reply:
                    master = self._connection_to(TcpAddress(_host(host, connection.address), port))
                    slots[first : last + 1] = [master] * (last + 1 - first)
                covered = [slot for slot in slots if slot is not None]
                if len(covered) == SLOTS:
                    self._slots = covered
                    self._stale = False
                    return
                problem = StoreUnavailable("the Redis Cluster has slots that no master serves")
            raise StoreUnavailable(f"the Redis Cluster can't be asked for its slots: {problem}")


class _NoScript:
    """The server does not know the script."""


@asynccontextmanager
async def open_redis(settings: RedisSettings) -> AsyncIterator[Redis]:
    """Connect, discover the cluster if there is one, and keep the connections open while the block runs.

    Raises StoreUnavailable or StoreRefused when no server can be used.
    """
    async with open_service_nursery() as nursery:
        redis = Redis(settings, nursery)
        await redis.discover()
        yield redis
        nursery.cancel_scope.cancel()


def _host(host: bytes | None, asked: Address) -> str:
    """An empty host in a reply means the one that was asked (the server does not know its own name)."""
    if host:
        return host.decode()
    assert isinstance(asked, TcpAddress)
    return asked.host


def _parse_redirect(text: str, asked: Address) -> TcpAddress:
    """The target of `MOVED <slot> <host>:<port>` or `ASK ...`."""
    host, _, port = text.split(" ")[2].rpartition(":")
    return TcpAddress(_host(host.strip("[]").encode(), asked), int(port))
