"""A store without a node: opened here, and filled or measured."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from msgspec.structs import replace
from processes import PARTITIONS
from redises import RedisServers
from step import graph_of, new_flow, results, take
from work import chain

from orchy.flow.events import Started
from orchy.ring import partition_of
from orchy.store.flows import Commit
from orchy.store.redis import Redis, RedisSettings, RedisStore, TcpAddress, open_redis

NAMESPACE = "orchy"


@asynccontextmanager
async def open_store(servers: RedisServers) -> AsyncIterator[tuple[Redis, RedisStore]]:
    """The client and the store of the namespace that nodes have by default."""
    addresses = tuple(TcpAddress("127.0.0.1", port) for port in servers.ports)
    async with open_redis(RedisSettings(addresses=addresses, command_timeout_seconds=60.0)) as redis:
        yield redis, RedisStore(redis, NAMESPACE)


def finished_threes(count: int) -> Iterator[Commit]:
    """Flows of *three*, each from its start to its end in one commit: as the store has them in the end, for less."""
    graph = graph_of(chain("three", 3))
    flow, _ = take(graph, new_flow(graph, "flow"), [Started()], 0)
    events = [Started()]
    while not flow.state.over:
        events += results(flow)
        flow, _ = take(graph, new_flow(graph, "flow"), events, 0)
    _, commit = take(graph, new_flow(graph, "flow"), events, 0)
    for _ in range(count):
        flow_id = str(uuid.uuid4())
        yield replace(commit, flow_id=flow_id, partition=partition_of(flow_id, PARTITIONS))
