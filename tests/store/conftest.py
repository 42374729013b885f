"""The stores that the conformance suite is about, and a driver that makes their commits short to write.

`store` is each of them in turn: the reference in memory, a standalone Valkey, a Redis Cluster of three masters. The
servers live for the whole session; each test has a namespace of its own.
"""

from __future__ import annotations

import itertools
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis
import trio

from orchy.store.base import (
    Commit,
    Committed,
    DueTimer,
    Lease,
    Listing,
    PartitionLook,
    QueueEntry,
    Store,
    TimerKey,
    TimerSetting,
)
from orchy.store.memory import MemoryStore
from orchy.store.redis import RedisSettings, RedisStore, TcpAddress, open_redis
from orchy.store.redis.embedded import find_binary

SERVER_START_SECONDS = 30
HANG_SECONDS = 20
SLOTS = 16_384
NAMESPACES = itertools.count()
HOUR_MS = 3_600_000


def free_port() -> int:
    """A port that was free a moment ago, with one 10,000 above it for the cluster's bus."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 50_000:
            return port


@contextmanager
def run_server(folder: Path, *, cluster: bool) -> Iterator[int]:
    """A Valkey on a loopback port, without persistence; stopped at the end."""
    port = free_port()
    command = [str(find_binary()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    if cluster:
        command += ["--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{port}.conf"]
    with (folder / f"server-{port}.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            with redis.Redis(port=port) as client:
                wait_until(lambda: answers(client), server)
            yield port
        finally:
            server.terminate()
            server.wait(SERVER_START_SECONDS)


def answers(client: redis.Redis) -> bool:
    """Whether the server is up."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def wait_until(condition: Callable[[], bool], server: subprocess.Popen[bytes] | None = None) -> None:
    """Poll until it holds."""
    give_up_at = time.monotonic() + SERVER_START_SECONDS
    while not condition():
        assert server is None or server.poll() is None, "the server ended at once"
        assert time.monotonic() < give_up_at, "the server was not ready in time"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def valkey_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A standalone server."""
    with run_server(tmp_path_factory.mktemp("valkey"), cluster=False) as port:
        yield port


@pytest.fixture(scope="session")
def cluster_ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """Three masters that share the slots."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("cluster")
        ports = [stack.enter_context(run_server(folder, cluster=True)) for _ in range(3)]
        clients = [stack.enter_context(redis.Redis(port=port)) for port in ports]
        bounds = [SLOTS * number // 3 for number in range(4)]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            client.execute_command("CLUSTER MEET", "127.0.0.1", ports[0])

        def formed() -> bool:
            infos = [client.execute_command("CLUSTER INFO") for client in clients]
            return all(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3" for info in infos)

        wait_until(formed)
        yield ports


STORES = [
    pytest.param("memory"),
    pytest.param("redis", marks=pytest.mark.real),
    pytest.param("cluster", marks=pytest.mark.real),
]


def redis_settings(kind: str, request: pytest.FixtureRequest) -> RedisSettings:
    """How to reach the server or the cluster."""
    ports = [request.getfixturevalue("valkey_port")] if kind == "redis" else request.getfixturevalue("cluster_ports")
    return RedisSettings(addresses=tuple(TcpAddress("127.0.0.1", port) for port in ports))


@pytest.fixture
def settings_of(request: pytest.FixtureRequest) -> Callable[[str], RedisSettings]:
    """The settings for `redis` or `cluster`."""
    return lambda kind: redis_settings(kind, request)


@pytest.fixture
def namespace() -> str:
    """One that no other test has."""
    return f"test-{next(NAMESPACES)}"


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Store]:
    """Each store in turn, empty."""
    if request.param == "memory":
        yield MemoryStore(time.time)
    else:
        async with open_redis(redis_settings(request.param, request)) as client:
            assert client.is_cluster is (request.param == "cluster")
            yield RedisStore(client, namespace)


@attrs.define
class Driver:
    """Commits with defaults, and looks at what can be seen."""

    store: Store

    async def start(self, flow_id: str = "flow", **changes: Any) -> Committed:
        """A flow's first commit."""
        fields = {"m": b"[]", **changes.pop("fields", {})}
        return await self.move(flow_id, 0, was=None, fields=fields, **changes)

    async def move(self, flow_id: str = "flow", version: int = 1, **changes: Any) -> Committed:
        """A commit on `version`; in the index the flow stays where it is, if nothing else is said."""
        commit = Commit(
            partition=changes.pop("partition", 0),
            flow_id=flow_id,
            workflow=changes.pop("workflow", "orders"),
            expected_version=version,
            fields=changes.pop("fields", {}),
            removed_fields=changes.pop("removed_fields", ()),
            history=changes.pop("history", ()),
            was=changes.pop("was", Listing.ACTIVE),
            now=changes.pop("now", Listing.ACTIVE),
            **changes,
        )
        return await self.store.commit(commit)

    async def end(self, flow_id: str = "flow", version: int = 1, retain_ms: int = HOUR_MS, **changes: Any) -> Committed:
        """A commit that completes the flow."""
        return await self.move(flow_id, version, now=Listing.COMPLETED, retain_ms=retain_ms, **changes)

    async def start_queued(self, flow_id: str, body: bytes, *, action: str = "pay", **changes: Any) -> Committed:
        """A flow whose action 1 is in the queue, in its first attempt."""
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

    async def look(self, lease: Lease, limit: int = 100, lease_ms: int = HOUR_MS) -> PartitionLook:
        """One partition."""
        (look,) = await self.store.look([lease], limit, lease_ms)
        return look

    async def wait_for_due(self, lease: Lease, lease_ms: int = HOUR_MS) -> Sequence[DueTimer]:
        """The timers of the first look that finds some."""
        return await until(lambda: self._due(lease, lease_ms))

    async def _due(self, lease: Lease, lease_ms: int) -> Sequence[DueTimer]:
        return (await self.look(lease, lease_ms=lease_ms)).due


async def until(found: Callable[[], Awaitable[Any]]) -> Any:
    """What `found` answers as soon as there is something."""
    with trio.fail_after(HANG_SECONDS):
        while not (answer := await found()):  # a server tells nobody when time has passed
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
