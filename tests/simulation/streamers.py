"""Workers that have a stream to each node: credit out, work in, results back; read slowly, cut off, ended in order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import attrs
import trio

from orchy.engine.orchestrator import Result
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.framing import Code
from orchy.rpc.grpc.values import fill_map
from orchy.worker.held import HeldAttempts
from tests.simulation.books import require
from tests.simulation.callers import AGAIN_SECONDS, PATIENCE_SECONDS, Worker
from tests.simulation.decoding import QUEUED, Attempt, read_attempts
from tests.simulation.node import LEASE_SECONDS, NoAnswer, Node
from tests.simulation.pipe import Pipe
from tests.simulation.queues import Key
from tests.simulation.workload import ACTION_NAMES

#: How often a worker is heard, as a share of the lease; and how long its streams must have been there for a node to be
#: able to ask it.
HEARD_SECONDS = LEASE_SECONDS * 0.25
CONNECTED_SECONDS = 1.2
#: After the lease of a worker that died: a look at the timers, and the way to the store.
COMES_BACK_SECONDS = 1.6


@attrs.define(eq=False)
class Process:
    """A worker process: what it holds, and its streams. An old one does not renew; another may wait to be asked."""

    name: str
    nodes: int
    renews: bool
    rehomes: bool
    held: HeldAttempts = attrs.field(factory=HeldAttempts)
    attempts: dict[Key, float] = attrs.field(factory=dict)  # that it works on, with their timeouts
    streams: dict[_Stream, None] = attrs.field(factory=dict)
    gone: trio.Event = attrs.field(factory=trio.Event)
    frozen_until: float = 0.0
    thawed_at: float = float("-inf")

    @property
    def is_there(self) -> bool:
        """Whether it runs."""
        return not self.gone.is_set() and trio.current_time() >= self.frozen_until

    def is_well_connected_since(self, moment: float) -> bool:
        """Whether each node can ask it, and could all the time since a while before a moment."""
        before = moment - CONNECTED_SECONDS
        connected = [one for one in self.streams if one.opened_at < before and one.pipe.open and one.reads]
        return self.frozen_until < before and len(connected) == self.nodes

    async def thaw(self) -> None:
        """Stand still, as long as it does."""
        while trio.current_time() < self.frozen_until:
            await trio.sleep_until(self.frozen_until)


@attrs.define(eq=False)
class _Stream:
    """One, as its worker sees it."""

    pipe: Pipe
    process: Process
    opened_at: float = attrs.field(factory=trio.current_time)
    reads: bool = True
    unanswered: dict[int, Result] = attrs.field(factory=dict)
    numbers: Any = attrs.field(factory=lambda: count(1))
    heard_goodbye: bool = False

    @property
    def name(self) -> str:
        return self.process.name

    def say(self, **fields: Any) -> int:
        number = next(self.numbers)
        renews = self.process.renews and number == 1
        self.pipe.say(pb.WorkerMessage(number=number, workerId=self.name, renews=renews, **fields))
        return number

    async def be_heard(self) -> None:
        """Say something often enough, unless the process stands still."""
        while self.process.renews:
            await trio.sleep(HEARD_SECONDS)
            await self.process.thaw()
            self.say()


class StreamWorker(Worker):
    """A worker process with streams instead of polls."""

    async def run(self) -> None:
        """Be one process after the other, with one stream after the other to each node, until cancelled."""
        while True:
            name, nodes = f"s{self._number}.{next(self._lives)}", self._cluster.nodes
            renews, rehomes = self._chance.random() < 0.85, self._chance.random() < 0.6
            process = Process(name, len(nodes), renews, rehomes)
            self._cluster.checker.processes[name] = process
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    nursery.start_soon(self._keep, node, process)
                await process.gone.wait()
                nursery.cancel_scope.cancel()
            self._expect_back(process)
            await trio.sleep(self._chance.uniform(0, 2))

    async def _keep(self, node: Node, process: Process) -> None:
        while True:
            try:
                stream = _Stream(node.open_stream(), process)
            except NoAnswer:
                await trio.sleep(AGAIN_SECONDS)
                continue
            process.streams[stream] = None
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.be_heard)
                    await self._use(stream)
                    nursery.cancel_scope.cancel()
            finally:
                stream.pipe.cut()
                del process.streams[stream]
                process.held.lose(stream)
            self._rehome(process)
            for result in stream.unanswered.values():
                self._nursery.start_soon(self._push, result)
            await trio.sleep(self._chance.uniform(0, 0.5))

    def _rehome(self, process: Process) -> None:
        """Another node shall renew what the one had handed out whose stream is no more."""
        other = next((one for one in process.streams if one.pipe.open), None)
        homeless = process.held.rehome(other) if other and process.renews and process.rehomes else []
        if other and homeless:
            self._world.count("attempts taken along to another node")
            other.say(holding=_messages_of(homeless))

    def _expect_back(self, process: Process) -> None:
        """In a sound world, what a process held that died is with others soon, or over."""
        if self._world.sound and process.renews:
            leased = [attempt for attempt, seconds in process.attempts.items() if seconds > LEASE_SECONDS]
            self._world.later(LEASE_SECONDS + COMES_BACK_SECONDS, self._check_back, process.name, leased)

    async def _check_back(self, name: str, attempts: list[Key]) -> None:
        await trio.lowlevel.checkpoint()
        for flow_id, action_id, number in attempts:
            book = self._cluster.checker.books[flow_id]
            running = book.flow.running.get(action_id) if book.flow else None
            still = running is not None and running.attempt == number and running.phase == QUEUED
            again = (action_id, number) in book.given_back or book.removed
            self._world.count("attempts of workers that died")
            require(not still or again, "what a lost worker held comes back", f"{name}: {flow_id} {action_id}.{number}")

    async def _use(self, stream: _Stream) -> None:
        chance = self._chance
        await stream.process.thaw()
        rehomes = stream.process.renews and stream.process.rehomes
        stream.say(holding=_messages_of(stream.process.held.rehome(stream) if rehomes else []))
        for action in ACTION_NAMES:
            stream.say(credits=[pb.Credit(actionName=action, count=chance.choice((0, 1, 3, 8)))])
        with trio.move_on_after(chance.choice((0.3, 3.0, 10.0, 40.0))):
            if await self._read(stream, lambda: False):
                return
        if chance.random() < 0.5 or not stream.pipe.open:
            self._world.count("streams that broke")
            return  # it is cut, in the middle of whatever it is in
        self._world.count("streams that ended")
        stream.say(goodbye=True)
        with trio.move_on_after(PATIENCE_SECONDS):
            if await self._read(stream, lambda: stream.heard_goodbye and not stream.unanswered):
                return
        if stream.pipe.open:
            stream.pipe.end_request()
            with trio.move_on_after(PATIENCE_SECONDS):
                await self._read(stream, lambda: False)

    async def _read(self, stream: _Stream, is_enough: Callable[[], bool]) -> bool:
        """Take what comes; true when nothing more does."""
        chance = self._chance
        async for reply in stream.pipe.replies():
            await stream.process.thaw()
            message = reply.SerializeToString()
            for attempt in read_attempts(message):
                self._begin(stream, attempt)
            told = pb.ServerMessage.FromString(message)
            if told.asks:
                self._answer(stream, told.asks)
            stream.heard_goodbye |= told.goodbye
            for taken in told.taken:
                self._take(stream, taken)
            if self._unlucky(self._world.profile.worker_deaths / 2):
                if chance.random() < 0.4:
                    self._world.note(f"{stream.name} stands still")
                    self._world.count("workers stood still")
                    stream.process.frozen_until = trio.current_time() + chance.choice((0.5, 3.0, 9.0))
                    continue
                self._world.note(f"{stream.name} dies")
                self._world.count("workers died")
                for one in stream.process.streams:
                    one.unanswered.clear()
                stream.process.gone.set()
                await trio.sleep_forever()
            if is_enough():
                return False
            if chance.random() < 0.05:  # it reads no more, and is cut off
                self._world.count("streams that were left unread")
                stream.reads = False
                await trio.sleep(chance.uniform(0, 1.5))
                return True
            if chance.random() < 0.3:  # it reads slowly
                await trio.sleep(chance.choice((0.001, 0.3, 1.0)))
        return True

    def _begin(self, stream: _Stream, attempt: Attempt) -> None:
        chance = self._chance
        self._cluster.checker.reach(attempt, stream.name)
        self._world.count("attempts that came on streams")
        stream.process.held.came(attempt.key, stream)
        stream.process.attempts[attempt.key] = attempt.timeout_seconds
        self._nursery.start_soon(self._work_long, stream, attempt)
        if not stream.pipe.open:
            return
        change = chance.choice((0, 1, 1, 1, 2, -1))
        stream.say(credits=[pb.Credit(actionName=attempt.name, count=change)])
        if chance.random() < 0.2:
            stream.say(extend=_messages_of([attempt.key]))
        if chance.random() < 0.3:
            self._nursery.start_soon(self._extend_late, stream, attempt)

    async def _work_long(self, stream: _Stream, attempt: Attempt) -> None:
        """Some take longer than a lease."""
        await trio.sleep(self._chance.choice((0.0, 0.0, 0.0, 1.5, 2.5, 4.0)))
        await self._work(attempt, stream.name, partial(self._bring, stream))

    async def _extend_late(self, stream: _Stream, attempt: Attempt) -> None:
        """Ask for more time as late as may be, or too late: an answer that it was granted holds all the same."""
        chance, seconds = self._chance, float(attempt.timeout_seconds)
        just_then = seconds + chance.choice((0.0, 0.002, 0.01, 0.03, 0.5))
        about_then = seconds * chance.choice((chance.uniform(0.97, 1.05), chance.uniform(1, 1.6)))
        await trio.sleep(chance.choice((just_then, about_then)))
        if stream.pipe.open and stream.process.is_there:
            self._world.count("extensions at the last moment")
            stream.say(extend=_messages_of([attempt.key]))

    def _answer(self, stream: _Stream, asks: Any) -> None:
        """What a node wants to know."""
        asked = [(ask.flowId, ask.actionId, ask.retryCount) for ask in asks]
        held, missing = stream.process.held.split(asked, stream)
        self._world.count("questions to workers")
        for attempt in missing:
            self._cluster.checker.missing[(*attempt, stream.name)] = trio.current_time()
        stream.say(holding=_messages_of(held), missing=_messages_of(missing), upMillis=stream.process.held.up_ms)

    def _bring(self, stream: _Stream, result: Result) -> None:
        process = stream.process
        if process.gone.is_set():
            return  # it died with it
        if not process.is_there:
            self._world.later(process.frozen_until - trio.current_time(), self._bring_late, stream, result)
            return
        if not stream.pipe.open or self._chance.random() < 0.2:
            self._nursery.start_soon(self._push, result)
            return
        message = pb.ActionResult(
            flowId=result.flow_id, actionId=result.action_id, retryCount=result.attempt, workerId=result.worker
        )
        if result.error is None:
            fill_map(message.data, result.output)
        else:
            message.status, message.error = pb.ActionResult.FAIL, result.error
        number = stream.say(results=[message])
        stream.unanswered[number] = result
        self._nursery.start_soon(self._push_if_unanswered, stream, number)

    async def _bring_late(self, stream: _Stream, result: Result) -> None:
        await trio.lowlevel.checkpoint()
        self._bring(stream, result)

    async def _push_if_unanswered(self, stream: _Stream, number: int) -> None:
        await trio.sleep(PATIENCE_SECONDS)
        result = stream.unanswered.pop(number, None)
        if result is not None:
            await self._push(result)

    def _take(self, stream: _Stream, taken: Any) -> None:
        result = stream.unanswered.pop(taken.number, None)
        (outcome,) = taken.outcomes
        require(outcome.code != Code.INVALID_ARGUMENT, "a good result is not refused", outcome.message)
        if result is None:
            return  # somebody else was asked meanwhile
        self._world.note(f"{result.flow_id} {result.action_id}.{result.attempt} of {result.worker}: {outcome.code}")
        if outcome.code:
            self._nursery.start_soon(self._push, result)
        else:
            self._check(result, "taken" if outcome.status else "removed")
            self._done_with(result)

    async def _push(self, result: Result) -> None:
        await super()._push(result)
        self._done_with(result)

    def _done_with(self, result: Result) -> None:
        """Some node has it: it is held no more."""
        process, attempt = (
            self._cluster.checker.processes[result.worker],
            (result.flow_id, result.action_id, result.attempt),
        )
        process.held.ended(attempt)
        process.attempts.pop(attempt, None)


def _messages_of(attempts: Any) -> list[Any]:
    return [
        pb.Attempt(flowId=flow_id, actionId=action_id, retryCount=number) for flow_id, action_id, number in attempts
    ]
