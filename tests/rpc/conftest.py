"""A worker API on a free port, with small stand-ins for what is behind it; and a foreign client, gRPC's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
import grpc
import h2.exceptions
import pytest
import trio
import trio.testing

from orchy.dispatch.attempt_leases import AttemptLeases
from orchy.engine.lost_attempts import LostAttempts
from orchy.engine.orchestrator import Result
from orchy.errors import OrchyError
from orchy.flow.definition import ActionDefinition
from orchy.ring import partition_of
from orchy.rpc.api.convert import encode_action
from orchy.rpc.api.servicer import ActionService, HealthService
from orchy.rpc.api.sessions import WorkSessions
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.generated import health_pb2
from orchy.rpc.grpc.call import BufferQuota
from orchy.rpc.grpc.connection import Connection
from orchy.rpc.grpc.framing import frame
from orchy.rpc.grpc.limits import CONNECTION_LIMITS, ConnectionLimits
from orchy.rpc.grpc.server import RpcServer, open_listeners
from orchy.rpc.grpc.services import methods_of
from orchy.runtime.gather import gather
from tests.engine.parts import PARTITIONS, make_engine
from tests.rpc.h2_client import H2Client
from tests.rpc.handlers import Handlers
from tests.rpc.streams import LEASE_SECONDS, STREAM_TIMEOUT_SECONDS, DeafWorker, Node, Store

HANG_SECONDS = 30.0

METHODS: dict[str, tuple[str, Any, Any]] = {
    "Poll": ("/ActionService/Poll", pb.ActionPollRequest, pb.Actions),
    "Push": ("/ActionService/Push", pb.ActionResult, pb.ActionResultPushResponse),
    "PushAll": ("/ActionService/PushAll", pb.ActionResults, pb.ActionResultsPushResponse),
    "SaveActionDefinition": (
        "/ActionService/SaveActionDefinition",
        pb.ActionDefinition,
        pb.ActionDefinitionSaveResponse,
    ),
    "GetServers": ("/ActionService/GetServers", pb.GetServersRequest, pb.GetServersResponse),
    "Check": ("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse),
    "Watch": ("/grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse),
}


async def _outcome(push: Any, result: Result) -> Any:
    try:
        return await push(result)
    except OrchyError as error:
        return error


@attrs.define
class Behind:
    """The orchestrator, catalog, dispatcher and cluster in one: notes what it is asked, answers what it is told to."""

    results: list[Result] = attrs.field(factory=list)
    definitions: list[ActionDefinition] = attrs.field(factory=list)
    polls: list[tuple[str, int, float, str]] = attrs.field(factory=list)
    bodies: list[bytes] = attrs.field(factory=list)
    error: Exception | None = None
    error_of: str = ""  # only results of this flow meet the error
    verdict: str | None = "applied"
    ready: bool = True
    held: int = 0
    cancelled: int = 0
    hold: bool = False
    let_go: trio.Event = attrs.field(factory=trio.Event)

    async def push(self, result: Result) -> str | None:
        await trio.lowlevel.checkpoint()
        if self.error and self.error_of in ("", result.flow_id):
            raise self.error
        self.results.append(result)
        return self.verdict

    async def push_all(self, results: list[Result]) -> list[Any]:
        return await gather(partial(_outcome, self.push), results)

    async def save_action(self, definition: ActionDefinition) -> bool:
        await trio.lowlevel.checkpoint()
        self.definitions.append(definition)
        return True

    async def poll(
        self, action_name: str, limit: int, wait_seconds: float, worker: str, lease_ms: int = 0
    ) -> list[bytes]:
        self.polls.append((action_name, limit, wait_seconds, worker))
        if self.error:
            raise self.error
        if self.hold:
            self.held += 1
            try:
                await self.let_go.wait()
            except trio.Cancelled:
                self.cancelled += 1
                raise
            finally:
                self.held -= 1
        await trio.lowlevel.checkpoint()
        bodies, self.bodies = self.bodies[:limit], self.bodies[limit:]
        return bodies

    def servers(self) -> list[tuple[str, str]]:
        return [("a", "127.0.0.1:1"), ("b", "127.0.0.1:2")]


@attrs.define
class Api:
    """The server, what is behind it, and calls to it from a thread with gRPC's own client."""

    behind: Behind
    server: RpcServer
    port: int

    def channel(self, **options: Any) -> grpc.Channel:
        return grpc.insecure_channel(f"127.0.0.1:{self.port}", **options)

    async def call(self, name: str, timeout: float = HANG_SECONDS, /, **fields: Any) -> Any:
        """One call on a connection of its own. Raises grpc.RpcError."""
        return await trio.to_thread.run_sync(partial(self._call, name, timeout, fields))

    def _call(self, name: str, timeout: float, fields: dict[str, Any]) -> Any:
        path, request_type, reply_type = METHODS[name]
        with self.channel() as channel:
            call = channel.unary_unary(path, request_type.SerializeToString, reply_type.FromString)
            return call(request_type(**fields), timeout=timeout)

    async def refused(self, name: str, timeout: float = HANG_SECONDS, /, **fields: Any) -> tuple[grpc.StatusCode, str]:
        """The status of a call that must fail."""
        with pytest.raises(grpc.RpcError) as caught:
            await self.call(name, timeout, **fields)
        return caught.value.code(), caught.value.details()


def services_of(behind: Behind, sessions: WorkSessions | None = None) -> list[Any]:
    """Both services over the stand-in."""
    everything: Any = behind
    sessions = sessions or WorkSessions(everything, everything, everything)
    service = ActionService(everything, everything, everything, sessions, everything, everything)
    return [service, HealthService(everything)]


@pytest.fixture
def behind() -> Behind:
    """What is behind the worker API."""
    return Behind()


@pytest.fixture
async def api(behind: Behind) -> AsyncIterator[Api]:
    """A worker API on a free port."""
    server = RpcServer(services_of(behind))
    listeners, port = await open_listeners("127.0.0.1", 0, "--grpc-port")
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(server.serve, listeners))
        yield Api(behind, server, port)
        nursery.cancel_scope.cancel()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Any]:
    """Wait for something that another task brings about; the hang guard is generous."""

    async def wait(condition: Callable[[], bool]) -> None:
        with trio.fail_after(HANG_SECONDS):
            while not condition():
                await trio.sleep(0.005)

    return wait


@attrs.define
class RawClient:
    """HTTP/2 by hand, over any stream: to send what no client library would."""

    stream: trio.abc.Stream
    http: H2Client = attrs.field(factory=H2Client)
    events: list[Any] = attrs.field(factory=list)

    async def greet(self) -> None:
        self.http.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        await self.stream.send_all(self.http.data_to_send())

    def open(self, path: str = "/ActionService/Poll", **headers: str) -> int:
        """Send headers; the stream's id."""
        stream_id: int = self.http.get_next_available_stream_id()
        fields = {":method": "POST", ":scheme": "http", ":authority": "a", ":path": path, "te": "trailers"}
        fields["content-type"] = "application/grpc"
        fields.update({key.replace("_", "-"): value for key, value in headers.items()})
        self.http.send_headers(stream_id, list(fields.items()))
        return stream_id

    def request(self, message: Any, path: str = "/ActionService/Poll", **headers: str) -> int:
        """A whole request; the stream's id."""
        stream_id = self.open(path, **headers)
        self.http.send_data(stream_id, frame(message.SerializeToString()), end_stream=True)
        return stream_id

    async def receive(self) -> bool:
        """Take in what comes; false at the end of the connection."""
        data = await self.stream.receive_some(65536)
        if data:
            self.events += self.http.receive_data(bytes(data))
            await self.flush()
        return bool(data)

    async def until(self, kind: type, stream_id: int | None = None) -> Any:
        """The next event of a kind."""
        with trio.fail_after(HANG_SECONDS):
            while True:
                for event in self.events:
                    if isinstance(event, kind) and stream_id in (None, getattr(event, "stream_id", None)):
                        self.events.remove(event)
                        return event
                assert await self.receive(), f"the connection ended before a {kind.__name__} came"

    async def status(self, stream_id: int, within_seconds: float = HANG_SECONDS) -> str:
        """The grpc-status of a call."""
        with trio.fail_after(within_seconds):
            while True:
                for event in self.events:
                    if getattr(event, "stream_id", None) == stream_id and hasattr(event, "headers"):
                        headers = {_text(key): _text(value) for key, value in event.headers}
                        if "grpc-status" in headers:
                            return headers["grpc-status"]
                assert await self.receive(), "the connection ended before a status came"

    async def end(self) -> None:
        """Returns when the server has closed the connection."""
        with suppress(trio.BrokenResourceError, h2.exceptions.ProtocolError):
            while await self.receive():
                pass


def _text(text: Any) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


@pytest.fixture
async def in_memory(behind: Behind) -> AsyncIterator[Callable[..., tuple[Connection, RawClient]]]:
    """Connections without a network, so that a test's clock may be a mock."""
    methods = methods_of(services_of(behind))
    async with trio.open_nursery() as nursery:

        def connect(
            quota: BufferQuota | None = None, limits: ConnectionLimits = CONNECTION_LIMITS
        ) -> tuple[Connection, RawClient]:
            ours, theirs = trio.testing.memory_stream_pair()
            connection = Connection(theirs, methods, quota or BufferQuota(), limits)

            async def serve() -> None:
                await connection.serve()
                await theirs.aclose()

            nursery.start_soon(serve)
            return connection, RawClient(ours)

        yield connect
        nursery.cancel_scope.cancel()


@pytest.fixture
def raw() -> type[RawClient]:
    """HTTP/2 by hand."""
    return RawClient


@pytest.fixture
async def node(autojump_clock: Any, nursery: trio.Nursery, request: Any) -> Node:
    """A node with a workflow `w` of two user actions, `a` and then `b`, and one of each alone.

    Its parameter, if any, has the `limits` and the `timing` of its sessions.
    """
    store = Store()
    engine = make_engine(store, encode_action=encode_action)
    await nursery.start(engine.keeper.run)
    leases = AttemptLeases(store, partial(partition_of, partitions=PARTITIONS))
    limited = getattr(request, "param", {})
    sessions = WorkSessions(engine.orchestrator, engine.dispatcher, leases, LEASE_SECONDS, **limited)
    lost = LostAttempts(engine.orchestrator, store, sessions, LEASE_SECONDS * 1000)
    engine.timers._fire = lost.fire
    nursery.start_soon(engine.timers.run)
    await nursery.start(sessions.run)
    for name in ("a", "b"):
        definition = ActionDefinition(name, retry_count=2, timeout_seconds=STREAM_TIMEOUT_SECONDS)
        await engine.catalog.save_action(definition)
    action = {"type": "user", "parameters": {"text": "{$.input.text}"}}
    await engine.save({"id": 1, "name": "a", "next": [2], **action}, {"id": 2, "name": "b", **action})
    for name in ("a", "b"):
        await engine.save({"id": 1, "name": name, **action}, name=f"only {name}")
    return Node(engine, sessions, store, nursery, leases)


@pytest.fixture
def deaf_worker(node, raw: Callable[..., Any]) -> Any:
    """Open the stream of one that does not read."""

    async def connect() -> DeafWorker:
        ours, theirs = trio.testing.memory_stream_pair()
        node.serve(theirs)
        client = raw(ours)
        await client.greet()
        stream_id = client.open("/ActionService/Work")
        await client.flush()
        return DeafWorker(client, stream_id)

    return connect


@pytest.fixture
def handlers() -> Handlers:
    """Handlers that do what a test wants."""
    return Handlers()


@pytest.fixture
async def connect(handlers: Handlers, raw: type[RawClient]) -> AsyncIterator[Callable[..., Any]]:
    """A connection to the handlers, greeted, and its client."""
    async with trio.open_nursery() as nursery:

        async def connect(quota: BufferQuota | None = None, limits: ConnectionLimits = CONNECTION_LIMITS) -> Any:
            ours, theirs = trio.testing.memory_stream_pair()
            connection = Connection(theirs, handlers.methods(), quota or BufferQuota(), limits)

            async def serve() -> None:
                await connection.serve()
                await theirs.aclose()

            nursery.start_soon(serve)
            client = raw(ours)
            await client.greet()
            await client.until(h2.events.RemoteSettingsChanged)
            return connection, client

        yield connect
        nursery.cancel_scope.cancel()
