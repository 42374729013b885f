"""The servers that a worker knows, and a connection to each, made again with backoff when it is lost.

A worker begins with the addresses it was given, the seeds; `GetServers` then lists the live servers. A server that is
not listed and can't be reached is forgotten, unless it is a seed. A seed that is not listed (it may be another name of
one that is) is not used while all listed ones are connected.
"""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import attrs
import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.channel import Channel, ConnectionLost, open_channel
from orchy.rpc.grpc.framing import Code, Status
from orchy.worker.logs import DedupLog
from orchy.worker.parameters import DEFAULTS, Parameters

WORK_METHOD = "ActionService/Work"

log = logging.getLogger("orchy.worker")


@attrs.define(eq=False)
class _Server:
    address: str
    channel: Channel | None = None
    has_streams: bool = False

    @property
    def connected(self) -> bool:
        return self.channel is not None and self.channel.open


class ServerPool:
    """The live connections. `on_connect` is called on each new one before it is used; `purpose` follows
    "connected to ..." in the log.
    """

    def __init__(
        self,
        seeds: Sequence[str],
        on_connect: Callable[[Channel], Awaitable[None]],
        tls: ssl.SSLContext | None = None,
        purpose: str = "",
        parameters: Parameters = DEFAULTS,
    ) -> None:
        self._parameters = parameters
        self._seeds = tuple(dict.fromkeys(seeds))
        self._on_connect = on_connect
        self._tls = tls
        self._purpose = purpose
        self._servers: dict[str, _Server] = {}
        self._listed: frozenset[str] = frozenset()
        self._changed = trio.Event()
        self._turn = random.randrange(1_000)

    def channels(self) -> list[Channel]:
        """The connections to use, rotated at each call."""
        complete = self._listed and all(
            address in self._servers and self._servers[address].connected for address in self._listed
        )
        channels = [
            server.channel
            for server in self._servers.values()
            if server.channel is not None and server.channel.open and (not complete or server.address in self._listed)
        ]
        self._turn += 1
        cut = self._turn % len(channels) if channels else 0
        return channels[cut:] + channels[:cut]

    @property
    def all_have_streams(self) -> bool:
        """Whether all connected servers have streams."""
        return all(server.has_streams for server in self._servers.values() if server.connected)

    def has_streams(self, channel: Channel) -> bool:
        """Whether the server of a connection has streams."""
        return any(server.channel is channel and server.has_streams for server in self._servers.values())

    @property
    def expected(self) -> int:
        """How many servers there are to use when all listed ones are connected."""
        return max(1, len(self._listed))

    async def wait_open(self) -> list[Channel]:
        """The connections to use; waits until there is one."""
        while not (channels := self.channels()):
            await self._changed.wait()
        return channels

    async def changed(self) -> None:
        """Returns when a connection was made or lost, or the list of servers has changed."""
        await self._changed.wait()

    async def run(self) -> NoReturn:
        """Keep the connections until cancelled."""
        async with trio.open_nursery() as nursery:
            for seed in self._seeds:
                self._add(seed, nursery)
            while True:
                with trio.move_on_after(self._parameters.refresh_seconds):
                    await self._changed.wait()
                await self._refresh(nursery)
                await trio.sleep(self._parameters.refresh_min_seconds)

    async def _refresh(self, nursery: trio.Nursery) -> None:
        for channel in self.channels():
            try:
                await self._update_list(channel, nursery)
            except (ConnectionLost, Status, trio.TooSlowError) as error:
                log.debug("GetServers failed: %s", error)
            else:
                return

    async def _update_list(self, channel: Channel, nursery: trio.Nursery) -> None:
        """Ask a server for the list of all."""
        with trio.fail_after(self._parameters.call_seconds):
            reply = await channel.call("ActionService/GetServers", pb.GetServersRequest(), pb.GetServersResponse)
        listed = frozenset(server.rpc_addr for server in reply.servers[: self._parameters.servers_max])
        for address in sorted(listed - self._servers.keys()):
            if len(self._servers) < self._parameters.servers_max:
                log.info("a server joined: %s", address)
                self._add(address, nursery)
        if listed != self._listed:
            self._listed = listed
            self._notify()

    def _add(self, address: str, nursery: trio.Nursery) -> None:
        self._servers[address] = _Server(address)
        nursery.start_soon(self._keep, self._servers[address], nursery)

    async def _keep(self, server: _Server, nursery: trio.Nursery) -> None:
        """Connect to a server, again and again, until it is forgotten."""
        backoff_seconds = self._parameters.backoff_min_seconds
        dedup_log = DedupLog()
        while True:
            try:
                async with open_channel(server.address, self._tls) as channel:
                    with trio.fail_after(self._parameters.call_seconds):
                        await self._on_connect(channel)
                        server.has_streams = await _has_streams(channel)
                    await self._update_list(
                        channel, nursery
                    )  # before it is used, so that its share of the work is known
                    log.info("connected to %s%s", server.address, self._purpose)
                    dedup_log = DedupLog()
                    backoff_seconds = self._parameters.backoff_min_seconds
                    server.channel = channel
                    self._notify()
                    await channel.ending()
                    log.info("%s is gone", server.address)
                    self._notify()
                    await channel.closed()
            except (ConnectionLost, Status, trio.TooSlowError) as error:
                dedup_log.warn(f"can't work with {server.address}: {str(error) or 'it does not answer'}")
            finally:
                server.channel = None
            if server.address not in self._listed and server.address not in self._seeds:
                log.info("a server left: %s", server.address)
                del self._servers[server.address]
                return
            await trio.sleep(random.uniform(backoff_seconds / 2, backoff_seconds))
            backoff_seconds = min(2 * backoff_seconds, self._parameters.backoff_max_seconds)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


async def _has_streams(channel: Channel) -> bool:
    """Whether a server has streams: if so, it ends an empty one with OK. Raises ConnectionLost, Status."""
    try:
        async with channel.stream(WORK_METHOD, pb.ServerMessage) as stream:
            stream.end()
            async for _ in stream:
                pass
    except Status as status:
        if status.code is Code.UNAVAILABLE:
            raise
        return False
    return True
