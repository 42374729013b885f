"""A store without a node, to be filled or measured."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.harness.redis_servers import RedisServers
from orchy.store.redis import Redis, RedisSettings, RedisStore, TcpAddress, open_redis

NAMESPACE = "orchy"


@asynccontextmanager
async def open_store(servers: RedisServers) -> AsyncIterator[tuple[Redis, RedisStore]]:
    """A client, and the store in the default namespace of nodes."""
    addresses = tuple(TcpAddress("127.0.0.1", port) for port in servers.ports)
    async with open_redis(RedisSettings(addresses=addresses, command_timeout_seconds=60.0)) as redis:
        yield redis, RedisStore(redis, NAMESPACE)
