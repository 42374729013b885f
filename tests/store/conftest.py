"""The stores under the conformance suite, and a driver for short commits.

`store` is each of them in turn: the reference in memory, a standalone Valkey, a Redis Cluster of three masters. The
servers live for the whole session; each test has a namespace of its own.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis
import trio

from orchy.store.flows import Commit, Committed, Listing
from orchy.store.leases import Lease
from orchy.store.memory.store import MemoryStore
from orchy.store.ports import Store
from orchy.store.queues import QueueEntry
from orchy.store.redis import RedisSettings, RedisStore, TcpAddress, open_redis
from orchy.store.timers import DueTimer, PartitionScan, TimerKey, TimerSetting

HANG_SECONDS = 20
NAMESPACES = itertools.count()
HOUR_MS = 3_600_000


STORES = [
    pytest.param("memory"),
    pytest.param("redis", marks=pytest.mark.real),
    pytest.param("cluster", marks=pytest.mark.real),
]


STORAGE_PAGE = Path(__file__).parents[2] / "docs" / "storage.md"


def acl_rules(namespaces: str) -> list[str]:
    """The rights that docs/storage.md gives to the user of a namespace, for all that match a pattern."""
    (line,) = re.findall(r"^ACL SETUSER orchy on >PASSWORD (.*)$", STORAGE_PAGE.read_text(), re.MULTILINE)
    return [rule.replace("orchy", namespaces) for rule in line.split()]


def make_user(port: int, name: str, rules: Sequence[str]) -> None:
    """Create a user of a server with exactly these rights; its password is its name."""
    with redis.Redis(port=port) as client:
        client.execute_command("ACL SETUSER", name, "reset", "on", f">{name}", *rules)


def redis_settings(kind: str, request: pytest.FixtureRequest, *, documented: bool = False) -> RedisSettings:
    """How to reach the server or the cluster; `documented`: as a user with only the documented rights."""
    ports = [request.getfixturevalue("valkey_port")] if kind == "redis" else request.getfixturevalue("cluster_ports")
    addresses = tuple(TcpAddress("127.0.0.1", port) for port in ports)
    if not documented:
        return RedisSettings(addresses)
    for port in ports:
        make_user(port, "documented", acl_rules("test-*"))
    return RedisSettings(addresses, username="documented", password="documented")


@pytest.fixture
def settings_of(request: pytest.FixtureRequest) -> Callable[[str], RedisSettings]:
    """The settings for `redis` or `cluster`."""
    return lambda kind: redis_settings(kind, request)


@pytest.fixture
def namespace() -> str:
    """A namespace of the test's own."""
    return f"test-{next(NAMESPACES)}-"  # so that none is a prefix of another


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Store]:
    """Each store in turn, empty."""
    if request.param == "memory":
        yield MemoryStore(time.time)
    else:
        async with open_redis(redis_settings(request.param, request, documented=True)) as client:
            assert client.is_cluster is (request.param == "cluster")
            yield RedisStore(client, namespace)


@attrs.define
class Driver:
    """Commits with defaults, and short forms of other calls."""

    store: Store

    async def start(self, flow_id: str = "flow", **changes: Any) -> Committed:
        """A flow's first commit."""
        fields = {"m": b"[]", **changes.pop("fields", {})}
        return await self.move(flow_id, 0, listed_before=None, fields=fields, **changes)

    async def move(self, flow_id: str = "flow", version: int = 1, **changes: Any) -> Committed:
        """A commit on `version`; by default the flow stays listed as active."""
        commit = Commit(
            partition=changes.pop("partition", 0),
            flow_id=flow_id,
            workflow=changes.pop("workflow", "orders"),
            expected_version=version,
            fields=changes.pop("fields", {}),
            removed_fields=changes.pop("removed_fields", ()),
            history=changes.pop("history", ()),
            listed_before=changes.pop("listed_before", Listing.ACTIVE),
            listed_after=changes.pop("listed_after", Listing.ACTIVE),
            **changes,
        )
        return await self.store.commit(commit)

    async def end(self, flow_id: str = "flow", version: int = 1, retain_ms: int = HOUR_MS, **changes: Any) -> Committed:
        """A commit that completes the flow."""
        return await self.move(flow_id, version, listed_after=Listing.COMPLETED, retain_ms=retain_ms, **changes)

    async def start_queued(self, flow_id: str, body: bytes, *, action: str = "pay", **changes: Any) -> Committed:
        """A flow whose action 1 is queued in its first attempt."""
        entry = QueueEntry(action, 1, 1, HOUR_MS, body)
        fields = {"r:1": b"1:q:", **changes.pop("fields", {})}
        return await self.start(flow_id, fields=fields, enqueue=[entry], **changes)

    async def claim(self, action: str = "pay", partitions: Sequence[int] = (0,), limit: int = 100) -> list[bytes]:
        """The bodies of a claim."""
        return list((await self.store.claim(action, partitions, limit, "worker-1")).bodies)

    async def own(self, *partitions: int) -> list[Lease]:
        """Leases on partitions that nobody holds."""
        leases = await self.store.acquire(partitions, "node-1", HOUR_MS)
        assert len(leases) == len(partitions)
        return leases

    async def scan(self, lease: Lease, limit: int = 100, lease_ms: int = HOUR_MS) -> PartitionScan:
        """A scan of one partition."""
        (scan,) = await self.store.scan([lease], limit, lease_ms)
        return scan

    async def wait_for_due(self, lease: Lease, lease_ms: int = HOUR_MS) -> Sequence[DueTimer]:
        """The timers of the first scan that finds some."""
        return await until(lambda: self._due(lease, lease_ms))

    async def _due(self, lease: Lease, lease_ms: int) -> Sequence[DueTimer]:
        return (await self.scan(lease, lease_ms=lease_ms)).due


async def until(found: Callable[[], Awaitable[Any]]) -> Any:
    """Poll `found` until it returns something true."""
    with trio.fail_after(HANG_SECONDS):
        while not (answer := await found()):  # a server sends no event when time has passed
            await trio.sleep(0.001)
    return answer


@pytest.fixture
def wait_for() -> Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]:
    """`until`, for tests."""
    return until


@pytest.fixture
def drive(store: Store) -> Driver:
    """A driver of the store."""
    return Driver(store)


@pytest.fixture
def drive_on() -> Callable[[Store], Driver]:
    """Makes drivers of other stores."""
    return Driver


@pytest.fixture
def timer() -> Callable[..., TimerSetting]:
    """Makes `TimerSetting`s from the text of a key."""

    def make(text: str, after_ms: int = 0) -> TimerSetting:
        return TimerSetting(TimerKey.parse(text), after_ms)

    return make
