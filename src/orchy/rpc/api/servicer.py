"""What the calls of the worker API mean."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

import trio

from orchy.dispatch.attempt_leases import LEASE_MS_MAX, LEASE_MS_MIN, AttemptLeases
from orchy.dispatch.dispatcher import Dispatcher
from orchy.engine.catalog import Catalog
from orchy.engine.orchestrator import Orchestrator
from orchy.errors import InvalidInput, OrchyError
from orchy.rpc.api.convert import EncodedActions, definition_of, result_of
from orchy.rpc.api.leases import attempts_of
from orchy.rpc.api.outcomes import push_all, status_of
from orchy.rpc.api.sessions import WorkSessions
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.generated import health_pb2
from orchy.rpc.generated.action_service_grpc import ActionServiceServicer
from orchy.rpc.generated.health_grpc import HealthServicer
from orchy.rpc.grpc.framing import Code, Status
from orchy.store.limits import BATCH_MAX

WAIT_MAX_SECONDS = 60.0
NAME_LENGTH_MAX = 256
#: In one call.
RESULTS_MAX = 1_000
#: How often the status is looked at for calls that watch it.
HEALTH_POLL_SECONDS = 1.0

_R = TypeVar("_R")
_Method = Callable[[Any, Any], Coroutine[Any, Any, _R]]


class ClusterView(Protocol):
    """What the worker API needs to know of the cluster."""

    @property
    def ready(self) -> bool:
        """Whether this node serves."""
        ...

    def servers(self) -> list[tuple[str, str]]:
        """(name, gRPC address) of the live members."""
        ...


def _lease_ms(asked_ms: int) -> int:
    return max(LEASE_MS_MIN, min(asked_ms, LEASE_MS_MAX))


def _translating_errors(method: _Method[_R]) -> _Method[_R]:
    """A method whose OrchyErrors become statuses."""

    @functools.wraps(method)
    async def call(self: Any, input_message: Any) -> _R:
        try:
            return await method(self, input_message)
        except OrchyError as error:
            raise status_of(error) from None

    return call


class ActionService(ActionServiceServicer):
    """The service that workers call."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        catalog: Catalog,
        dispatcher: Dispatcher,
        sessions: WorkSessions,
        cluster: ClusterView,
        leases: AttemptLeases,
    ) -> None:
        self._leases = leases
        self._orchestrator = orchestrator
        self._catalog = catalog
        self._dispatcher = dispatcher
        self._sessions = sessions
        self._cluster = cluster

    @_translating_errors
    async def SaveActionDefinition(self, input_message: Any) -> Any:
        """Save an action definition."""
        await self._catalog.save_action(definition_of(input_message))
        return pb.ActionDefinitionSaveResponse(status=True)

    @_translating_errors
    async def Poll(self, input_message: Any) -> Any:
        """Hand out attempts; a `batchSize` below 1 means 1, one above BATCH_MAX means that."""
        name = input_message.actionType
        if not name:
            raise InvalidInput("a poll names its action in actionType")
        if len(name) > NAME_LENGTH_MAX:
            raise InvalidInput(f"an action's name has at most {NAME_LENGTH_MAX} characters")
        limit = max(1, min(input_message.batchSize, BATCH_MAX))
        wait_seconds = max(0.0, min(input_message.waitMillis / 1000, WAIT_MAX_SECONDS))
        worker = input_message.workerId[:NAME_LENGTH_MAX]
        lease_ms = _lease_ms(input_message.leaseMillis) if input_message.leaseMillis > 0 else 0
        if lease_ms and not worker:
            raise InvalidInput("a poll with leaseMillis says in workerId who polls")
        return EncodedActions(await self._dispatcher.poll(name, limit, wait_seconds, worker, lease_ms))

    @_translating_errors
    async def Renew(self, input_message: Any) -> Any:
        """Let a worker that polls keep what it holds."""
        if len(input_message.attempts) > RESULTS_MAX:
            raise InvalidInput(f"at most {RESULTS_MAX} attempts at once")
        attempts = attempts_of(input_message.attempts)
        renewed = await self._leases.renew(attempts, _lease_ms(input_message.leaseMillis))
        return pb.RenewResponse(renewed=[renewed[attempt] for attempt in attempts])

    @_translating_errors
    async def Push(self, input_message: Any) -> Any:
        """Take a result; false only if there is no such flow."""
        verdict = await self._orchestrator.push(result_of(input_message))
        return pb.ActionResultPushResponse(status=verdict is not None)

    @_translating_errors
    async def PushAll(self, input_message: Any) -> Any:
        """Take results side by side, so that their commits leave together; the outcome of each, in their order."""
        if len(input_message.results) > RESULTS_MAX:
            raise InvalidInput(f"at most {RESULTS_MAX} results at once")
        return pb.ActionResultsPushResponse(outcomes=await push_all(self._orchestrator, input_message.results))

    async def Work(self, input_messages: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        """Carry a worker's stream: work out, results in."""
        async with aclosing(self._sessions.serve(input_messages)) as replies:
            async for reply in replies:
                yield reply

    async def GetServers(self, input_message: Any) -> Any:
        """The live members."""
        await trio.lowlevel.checkpoint()
        servers = [pb.Server(id=name, rpc_addr=address) for name, address in self._cluster.servers()]
        return pb.GetServersResponse(servers=servers)


class HealthService(HealthServicer):
    """The standard health service, for the server ("") and for ActionService."""

    _services = ("", "ActionService")

    def __init__(self, cluster: ClusterView) -> None:
        self._cluster = cluster

    async def Check(self, input_message: Any) -> Any:
        """SERVING when this node is ready."""
        await trio.lowlevel.checkpoint()
        if input_message.service not in self._services:
            raise Status(Code.NOT_FOUND, f"there is no service {input_message.service!r}")
        return health_pb2.HealthCheckResponse(status=self._status())

    async def Watch(self, input_message: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        """The status now, and each time it changes; seen within HEALTH_POLL_SECONDS."""
        sent: Any = None
        while True:
            known = input_message.service in self._services
            status = self._status() if known else health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            if status != sent:
                sent = status
                yield health_pb2.HealthCheckResponse(status=status)
            await trio.sleep(HEALTH_POLL_SECONDS)

    def _status(self) -> health_pb2.HealthCheckResponse.ServingStatus:
        response = health_pb2.HealthCheckResponse
        return response.SERVING if self._cluster.ready else response.NOT_SERVING
