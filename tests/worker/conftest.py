"""Scripted servers that a worker is let loose on: they hand out what a test puts in, and note what comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import pytest
import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.generated.action_service_grpc import ActionServiceServicer
from orchy.rpc.grpc.framing import Code, Status
from orchy.rpc.grpc.server import RpcServer, open_listeners
from orchy.rpc.grpc.values import fill_map
from orchy.worker import Worker
from orchy.worker.parameters import Parameters

HANG_SECONDS = 30.0
#: For workers whose servers come and go during a test.
HURRIED = Parameters(
    refresh_seconds=0.05,
    refresh_min_seconds=0.01,
    backoff_max_seconds=0.1,
    reopen_seconds=0.05,
    check_seconds=0.02,
)


@attrs.define
class Script(ActionServiceServicer):
    """One server. `polling` is how many polls it holds now; one that can't wait answers each at once, as of old."""

    listed: list[str]
    queues: dict[str, list[pb.Action]] = attrs.field(factory=dict)
    polls: list[tuple[str, int, int]] = attrs.field(factory=list)
    polling: int = 0
    cut_off_polls: int = 0
    results: list[pb.ActionResult] = attrs.field(factory=list)
    definitions: list[pb.ActionDefinition] = attrs.field(factory=list)
    refusal: Status | None = None
    pushes: int = 0
    can_wait: bool = True
    swallows_pushes: bool = False
    refused_flow: str = ""
    knows_push_all: bool = True
    forgets_outcomes: int = 0
    batches: list[int] = attrs.field(factory=list)
    poll_error: Status | None = None
    work: trio.Event = attrs.field(factory=trio.Event)

    def put(self, name: str, data: dict[str, Any] | None = None, *, flow_id: str = "f", attempt: int = 1) -> None:
        """One more attempt that a poll will get."""
        action = pb.Action(workflowName="w", flowId=flow_id, actionId=3, actionName=name, retryCount=attempt)
        action.timeoutSeconds = 60
        fill_map(action.data, data or {})
        self.queues.setdefault(name, []).append(action)
        self.work.set()
        self.work = trio.Event()

    async def SaveActionDefinition(self, input_message: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.definitions.append(input_message)
        return pb.ActionDefinitionSaveResponse(status=True)

    async def Poll(self, input_message: Any) -> Any:
        name, wait_millis = input_message.actionType, input_message.waitMillis
        self.polls.append((name, input_message.batchSize, wait_millis))
        await trio.lowlevel.checkpoint()
        if self.poll_error:
            raise self.poll_error
        if wait_millis and self.can_wait:
            await self._wait(name, wait_millis / 1000)
        queue = self.queues.get(name, [])
        taken, queue[:] = queue[: input_message.batchSize], queue[input_message.batchSize :]
        return pb.Actions(actions=taken)

    async def _wait(self, name: str, seconds: float) -> None:
        self.polling += 1
        try:
            with trio.move_on_after(seconds):
                while not self.queues.get(name):
                    await self.work.wait()
        except trio.Cancelled:
            self.cut_off_polls += 1
            raise
        finally:
            self.polling -= 1

    async def Push(self, input_message: Any) -> Any:
        self.pushes += 1
        await trio.lowlevel.checkpoint()
        if self.swallows_pushes:
            await trio.sleep_forever()
        if self.refusal:
            raise self.refusal
        if input_message.flowId == self.refused_flow and input_message.status == pb.ActionResult.SUCCESS:
            raise Status(Code.INVALID_ARGUMENT, "too strange")
        self.results.append(input_message)
        return pb.ActionResultPushResponse(status=True)

    async def PushAll(self, input_message: Any) -> Any:
        if not self.knows_push_all:
            raise Status(Code.UNIMPLEMENTED, "there is no such method")
        self.batches.append(len(input_message.results))
        outcomes = []
        for result in input_message.results:
            try:
                outcomes.append(pb.PushOutcome(status=(await self.Push(result)).status))
            except Status as status:
                outcomes.append(pb.PushOutcome(code=int(status.code), message=status.message))
        if self.forgets_outcomes:
            self.forgets_outcomes -= 1
            outcomes.pop()
        return pb.ActionResultsPushResponse(outcomes=outcomes)

    async def GetServers(self, input_message: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return pb.GetServersResponse(servers=[pb.Server(id=a, rpc_addr=a) for a in self.listed])


@attrs.define(eq=False)
class ScriptedStream:
    """A worker's stream as a server sees it. `credit`: what the worker has given, less what was handed out."""

    out: trio.MemorySendChannel[Any]
    credit: Counter[str] = attrs.field(factory=Counter)
    messages: list[Any] = attrs.field(factory=list)
    heard_goodbye: bool = False
    ended: bool = False

    @property
    def worker(self) -> str:
        """Who has it."""
        return str(self.messages[0].workerId)


@attrs.define
class StreamScript(Script):
    """A server that has streams; what is put into its queues goes to whoever has credit."""

    nursery: trio.Nursery | None = None
    streams: list[ScriptedStream] = attrs.field(factory=list)
    extended: list[tuple[str, int, int]] = attrs.field(factory=list)
    over: bool = False  # what it says to extensions
    answers: bool = True  # results and extensions
    says_goodbye: bool = True
    outcome: Any = None  # what it says to each result, instead of taking it

    @property
    def open(self) -> list[ScriptedStream]:
        """Those that the worker has not ended."""
        return [stream for stream in self.streams if not stream.ended]

    def put(self, name: str, data: dict[str, Any] | None = None, *, flow_id: str = "f", attempt: int = 1) -> None:
        Script.put(self, name, data, flow_id=flow_id, attempt=attempt)
        self.hand_out()

    def hand_out(self, name: str = "", *, beyond_credit: bool = False) -> None:
        """What there is, as far as there is credit."""
        for stream in self.open:
            for action, queue in self.queues.items():
                while queue and (stream.credit[action] > 0 or beyond_credit):
                    stream.credit[action] -= 1
                    stream.out.send_nowait(pb.ServerMessage(actions=[queue.pop(0)]))

    def say_goodbye(self) -> None:
        """There is no more work."""
        for stream in self.open:
            stream.out.send_nowait(pb.ServerMessage(goodbye=True))

    def end_streams(self) -> None:
        """As if there was a fault."""
        for stream in self.open:
            stream.out.close()

    async def Work(self, input_messages: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        assert self.nursery is not None
        out, messages = trio.open_memory_channel[Any](1_000)
        stream = ScriptedStream(out)
        self.nursery.start_soon(self._read, input_messages, stream)
        try:
            async for message in messages:
                yield message
        finally:
            stream.ended = True

    async def _read(self, input_messages: Any, stream: ScriptedStream) -> None:
        async for message in input_messages:
            if not stream.messages:
                self.streams.append(stream)
            stream.messages.append(message)
            for credit in message.credits:
                stream.credit[credit.actionName] += credit.count
            if message.goodbye:
                stream.heard_goodbye = True
                stream.credit.clear()
            self.extended += [(a.flowId, a.actionId, a.retryCount) for a in message.extend]
            if self.answers and not stream.ended:
                self._answer(message, stream)
            self.hand_out()
        if self.says_goodbye:
            stream.out.close()

    def _answer(self, message: Any, stream: ScriptedStream) -> None:
        reply = pb.ServerMessage(goodbye=message.goodbye and self.says_goodbye)
        if message.results:
            outcome = self.outcome or pb.PushOutcome(status=True)
            if self.outcome is None:
                self.results += message.results
            reply.taken.add(number=message.number, outcomes=[outcome] * len(message.results))
        if message.extend:
            reply.extended.add(number=message.number, extended=[not self.over] * len(message.extend))
        if reply.ByteSize():
            stream.out.send_nowait(reply)


@attrs.define(eq=False)
class Site:
    """A script on a port; `kill` ends it at once, `start` again has the same port."""

    script: Any
    nursery: trio.Nursery
    port: int = 0
    server: RpcServer = attrs.field(init=False)
    scope: trio.CancelScope = attrs.field(init=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        listeners, self.port = await open_listeners("127.0.0.1", self.port, "--grpc-port")
        self.server = RpcServer([self.script])
        await self.nursery.start(self._serve, listeners)

    async def _serve(self, listeners: Any, *, task_status: Any) -> None:
        with trio.CancelScope() as self.scope:
            await self.server.serve(listeners, task_status=task_status)

    def kill(self) -> None:
        self.scope.cancel()


@attrs.define(eq=False)
class Running:
    """A worker at work; `stop` returns when it has returned."""

    stopping: trio.Event = attrs.field(factory=trio.Event)
    returned: trio.Event = attrs.field(factory=trio.Event)

    async def stop(self) -> None:
        self.stopping.set()
        with trio.fail_after(HANG_SECONDS):
            await self.returned.wait()


@pytest.fixture
async def start_server() -> AsyncIterator[Callable[..., Any]]:
    """Start one more server; all of them are listed by each, unless the test changes `listed`."""
    listed: list[str] = []
    async with trio.open_nursery() as nursery:

        async def start(*, streams: bool = False) -> Site:
            script = StreamScript(listed, nursery=nursery) if streams else Script(listed)
            site = Site(script, nursery)
            await site.start()
            listed.append(site.address)
            return site

        yield start
        nursery.cancel_scope.cancel()


@pytest.fixture
async def run_worker() -> AsyncIterator[Callable[[Worker], Running]]:
    """Run a worker until the end of the test."""
    async with trio.open_nursery() as nursery:

        def run(worker: Worker) -> Running:
            running = Running()

            async def work() -> None:
                await worker.run_async(running.stopping)
                running.returned.set()

            nursery.start_soon(work)
            return running

        yield run
        nursery.cancel_scope.cancel()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Any]:
    """Wait for something that another task brings about; the hang guard is generous."""

    async def wait(condition: Callable[[], bool]) -> None:
        with trio.fail_after(HANG_SECONDS):
            while not condition():
                await trio.sleep(0.005)

    return wait
