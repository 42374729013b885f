"""A node's worker door on a real orchestrator and the reference store, and workers that have a stream on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
import trio.testing

from orchy.dispatch.attempt_leases import AttemptLeases
from orchy.errors import StoreUnavailable
from orchy.rpc.api.servicer import ActionService
from orchy.rpc.api.sessions import WorkSessions
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.call import BufferQuota
from orchy.rpc.grpc.channel import Channel, MessageStream
from orchy.rpc.grpc.connection import Connection
from orchy.rpc.grpc.framing import Status, frame
from orchy.rpc.grpc.services import methods_of
from orchy.store.memory.store import MemoryStore
from tests.engine.parts import Engine

WORK = "ActionService/Work"
STREAM_TIMEOUT_SECONDS = 30
LEASE_SECONDS = 6


class Store:
    """The reference store, of which a test can slow down or break methods."""

    def __init__(self) -> None:
        self._store = MemoryStore(trio.current_time)
        self.commit_seconds = 0.0
        self.broken = False

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)

    async def commit(self, commit: Any) -> Any:
        committed = await self._store.commit(commit)
        await trio.sleep(self.commit_seconds)
        return committed

    async def commit_all(self, commits: Any) -> Any:
        outcomes = await self._store.commit_all(commits)
        await trio.sleep(self.commit_seconds)
        return outcomes

    async def actions(self) -> Any:
        if self.broken:
            raise StoreUnavailable("the store is gone")
        return await self._store.actions()

    async def extend(self, *args: Any) -> bool:
        if self.broken:
            raise StoreUnavailable("the store is gone")
        return bool(await self._store.extend(*args))


@attrs.define(eq=False)
class Worker:
    """One stream: what is said on it, and what came."""

    stream: MessageStream
    actions: list[Any] = attrs.field(factory=list)
    taken: list[Any] = attrs.field(factory=list)
    extended: list[Any] = attrs.field(factory=list)
    asks: list[Any] = attrs.field(factory=list)
    lease_ms: int = 0
    goodbyes: int = 0
    ended: trio.Event = attrs.field(factory=trio.Event)
    status: Status | None = None
    number: int = 0

    async def read(self) -> None:
        try:
            async for message in self.stream:
                self.actions += message.actions
                self.taken += message.taken
                self.extended += message.extended
                self.asks += message.asks
                self.lease_ms = message.leaseMillis or self.lease_ms
                self.goodbyes += message.goodbye
        except Status as status:
            self.status = status
        self.ended.set()

    async def say(self, **fields: Any) -> int:
        self.number += 1
        await self.stream.send(pb.WorkerMessage(number=self.number, **fields))
        return self.number

    async def credit(self, name: str, count: int) -> None:
        await self.say(workerId="tester", credits=[pb.Credit(actionName=name, count=count)])
        await quiet()


async def quiet() -> None:
    """Let everybody come to where they wait."""
    await trio.sleep(0.01)


def result_for(action: Any, **fields: Any) -> Any:
    return pb.ActionResult(flowId=action.flowId, actionId=action.actionId, retryCount=action.retryCount, **fields)


@attrs.define(eq=False)
class Node:
    """A server's engine and worker door; `connect` opens a connection, `stream` a stream on it."""

    engine: Engine
    sessions: WorkSessions
    store: Store
    nursery: trio.Nursery
    leases: AttemptLeases
    connections: list[Connection] = attrs.field(factory=list)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Channel]:
        ours, theirs = trio.testing.memory_stream_pair()
        channel = Channel(ours, "server")
        self.serve(theirs)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.run)
            await quiet()
            yield channel
            nursery.cancel_scope.cancel()
        await ours.aclose()

    def serve(self, stream: Any) -> Connection:
        everything: Any = self.engine.catalog
        service = ActionService(
            self.engine.orchestrator,
            self.engine.catalog,
            self.engine.dispatcher,
            self.sessions,
            everything,
            self.leases,
        )
        connection = Connection(stream, methods_of([service]), BufferQuota())
        self.connections.append(connection)

        async def serve() -> None:
            await connection.serve()
            await stream.aclose()

        self.nursery.start_soon(serve)
        return connection

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Worker]:
        """A worker with a stream on a connection of its own."""
        async with (
            self.connect() as channel,
            channel.stream(WORK, pb.ServerMessage) as stream,
            trio.open_nursery() as nursery,
        ):
            worker = Worker(stream)
            nursery.start_soon(worker.read)
            yield worker
            nursery.cancel_scope.cancel()

    async def start(self, count: int = 1, workflow: str = "w", input: Any = None) -> list[str]:
        flow_ids = [await self.engine.execute(workflow, input or {}) for _ in range(count)]
        await quiet()
        return flow_ids

    async def poll(self, name: str = "a") -> list[Any]:
        bodies = await self.engine.dispatcher.poll(name, 100, 0, "poller")
        return [pb.Action.FromString(body) for body in bodies]

    async def types(self, flow_id: str) -> list[str]:
        return await self.engine.types(flow_id)


@attrs.define(eq=False)
class DeafWorker:
    """HTTP/2 by hand: it sends, and reads when it is told to."""

    client: Any
    stream_id: int

    async def say(self, **fields: Any) -> None:
        self.client.http.send_data(self.stream_id, frame(pb.WorkerMessage(**fields).SerializeToString()))
        await self.client.flush()
        await quiet()

    async def listen(self, window_bytes: int = 0) -> None:
        """Take in what the connection has, and let so much more come on the stream."""
        with trio.move_on_after(0.01):
            while await self.client.receive():
                pass
        if window_bytes:
            self.client.http.increment_flow_control_window(window_bytes)
            self.client.http.increment_flow_control_window(window_bytes, self.stream_id)
            await self.client.flush()
