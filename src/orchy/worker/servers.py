"""The servers that a worker knows, and a connection to each: made, lost, made again with backoff.

The addresses that the worker was given are where it begins; `GetServers` then says who is there. Servers that are gone
from the list and can't be reached are forgotten, but never the given ones.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import attrs
import trio

from orchy.rpc.channel import Channel, ConnectionLost, open_channel
from orchy.rpc.framing import Status
from orchy.rpc.generated import action_service_pb2 as pb

REFRESH_SECONDS = 3.0
CALL_SECONDS = 5.0
BACKOFF_MIN_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 3.0

log = logging.getLogger("orchy.worker")


@attrs.define(eq=False)
class _Server:
    address: str
    channel: Channel | None = None
    listed: bool = True


class Servers:
    """The live connections."""

    def __init__(self, seeds: Sequence[str], greet: Callable[[Channel], Awaitable[None]]) -> None:
        self._seeds = tuple(seeds)
        self._greet = greet
        self._servers: dict[str, _Server] = {}
        self._changed = trio.Event()
        self._turn = random.randrange(1_000)

    def channels(self) -> list[Channel]:
        """Those that are open, beginning with another one at each call."""
        channels = [s.channel for s in self._servers.values() if s.channel is not None and s.channel.open]
        self._turn += 1
        cut = self._turn % len(channels) if channels else 0
        return channels[cut:] + channels[:cut]

    async def some(self) -> list[Channel]:
        """At least one open channel; waits for it."""
        while not (channels := self.channels()):
            await self._changed.wait()
        return channels

    async def changed(self) -> None:
        """Returns when a connection was made or lost."""
        await self._changed.wait()

    async def run(self) -> NoReturn:
        """Keep the connections until cancelled."""
        async with trio.open_nursery() as nursery:
            for seed in self._seeds:
                self._add(seed, nursery)
            while True:
                with trio.move_on_after(REFRESH_SECONDS):
                    await self._changed.wait()
                await self._refresh(nursery)
                await trio.sleep(BACKOFF_MIN_SECONDS)

    async def _refresh(self, nursery: trio.Nursery) -> None:
        for channel in self.channels():
            try:
                with trio.fail_after(CALL_SECONDS):
                    reply = await channel.call(
                        "ActionService/GetServers", pb.GetServersRequest(), pb.GetServersResponse
                    )
            except (ConnectionLost, Status, trio.TooSlowError):
                continue
            listed = {server.rpc_addr for server in reply.servers}
            for address in sorted(listed - self._servers.keys()):
                log.info("a server joined: %s", address)
                self._add(address, nursery)
            for server in self._servers.values():
                server.listed = server.address in listed
            return

    def _add(self, address: str, nursery: trio.Nursery) -> None:
        self._servers[address] = _Server(address)
        nursery.start_soon(self._keep, self._servers[address])

    async def _keep(self, server: _Server) -> None:
        """Connect to a server, again and again, until it is not one any more."""
        backoff_seconds = BACKOFF_MIN_SECONDS
        said = ""
        while True:
            try:
                async with open_channel(server.address) as channel:
                    with trio.fail_after(CALL_SECONDS):
                        await self._greet(channel)
                    log.info("connected to %s", server.address)
                    backoff_seconds, said = BACKOFF_MIN_SECONDS, ""
                    server.channel = channel
                    self._tell()
                    await channel.closed()
                    log.info("%s is gone", server.address)
            except (ConnectionLost, Status, trio.TooSlowError) as error:
                why = str(error) or "it does not answer"
                if why != said:
                    log.warning("can't work with %s: %s", server.address, why)
                said = why
            finally:
                server.channel = None
                self._tell()
            if not server.listed and server.address not in self._seeds:
                log.info("a server left: %s", server.address)
                del self._servers[server.address]
                return
            await trio.sleep(random.uniform(backoff_seconds / 2, backoff_seconds))
            backoff_seconds = min(2 * backoff_seconds, BACKOFF_MAX_SECONDS)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
