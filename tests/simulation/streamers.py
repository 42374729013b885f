"""Workers with a stream to each node, which they read slowly, cut off, or end in good order."""

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
from tests.simulation.callers import CALL_TIMEOUT_SECONDS, RETRY_SECONDS, Worker
from tests.simulation.decoding import QUEUED, Attempt, read_attempts
from tests.simulation.node import LEASE_SECONDS, NoAnswer, Node
from tests.simulation.pipe import Pipe
from tests.simulation.queues import Key
from tests.simulation.workload import ACTION_NAMES

#: How often a worker sends a keepalive, and how old its streams must be for nodes to be able to ask it.
KEEPALIVE_SECONDS = LEASE_SECONDS * 0.25
CONNECTED_SECONDS = 1.2
#: After the lease of a worker that died, for a scan of the timers and the way to the store.
RETURN_SECONDS = 1.6


@attrs.define(eq=False)
class Process:
    """A worker process with its attempts and streams. Old worker libraries do not renew, and some do not rehome."""

    name: str
    nodes: int
    renews: bool
    rehomes: bool
    held: HeldAttempts = attrs.field(factory=HeldAttempts)
    attempts: dict[Key, float] = attrs.field(factory=dict)  # in progress, with their timeouts
    streams: dict[_Stream, None] = attrs.field(factory=dict)
    gone: trio.Event = attrs.field(factory=trio.Event)
    frozen_until: float = 0.0
    thawed_at: float = float("-inf")

    @property
    def is_running(self) -> bool:
        """Whether it is neither dead nor frozen."""
        return not self.gone.is_set() and trio.current_time() >= self.frozen_until

    def is_well_connected_since(self, moment: float) -> bool:
        """Whether each node can ask it, and could since well before `moment`."""
        before = moment - CONNECTED_SECONDS
        connected = [one for one in self.streams if one.opened_at < before and one.pipe.open and one.reads]
        return self.frozen_until < before and len(connected) == self.nodes

    async def thaw(self) -> None:
        """Wait while the process is frozen."""
        while trio.current_time() < self.frozen_until:
            await trio.sleep_until(self.frozen_until)


@attrs.define(eq=False)
class _Stream:
    """One stream, as its worker sees it."""

    pipe: Pipe
    process: Process
    opened_at: float = attrs.field(factory=trio.current_time)
    reads: bool = True
    unanswered: dict[int, Result] = attrs.field(factory=dict)
    numbers: Any = attrs.field(factory=lambda: count(1))
    got_goodbye: bool = False

    @property
    def name(self) -> str:
        return self.process.name

    def send(self, **fields: Any) -> int:
        number = next(self.numbers)
        renews = self.process.renews and number == 1
        self.pipe.send(pb.WorkerMessage(number=number, workerId=self.name, renews=renews, **fields))
        return number

    async def send_keepalives(self) -> None:
        """Send keepalives, unless the process is frozen."""
        while self.process.renews:
            await trio.sleep(KEEPALIVE_SECONDS)
            await self.process.thaw()
            self.send()


class StreamWorker(Worker):
    """A worker process with streams instead of polls."""

    async def run(self) -> None:
        """Run one process after the other, each with one stream after the other to each node, until cancelled."""
        while True:
            name, nodes = f"s{self._number}.{next(self._lives)}", self._cluster.nodes
            renews, rehomes = self._rng.random() < 0.85, self._rng.random() < 0.6
            process = Process(name, len(nodes), renews, rehomes)
            self._cluster.checker.processes[name] = process
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    nursery.start_soon(self._keep, node, process)
                await process.gone.wait()
                nursery.cancel_scope.cancel()
            self._expect_return(process)
            await trio.sleep(self._rng.uniform(0, 2))

    async def _keep(self, node: Node, process: Process) -> None:
        while True:
            try:
                stream = _Stream(node.open_stream(), process)
            except NoAnswer:
                await trio.sleep(RETRY_SECONDS)
                continue
            process.streams[stream] = None
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.send_keepalives)
                    await self._use(stream)
                    nursery.cancel_scope.cancel()
            finally:
                stream.pipe.cut()
                del process.streams[stream]
                process.held.orphan(stream)
            self._rehome(process)
            for result in stream.unanswered.values():
                self._nursery.start_soon(self._push, result)
            await trio.sleep(self._rng.uniform(0, 0.5))

    def _rehome(self, process: Process) -> None:
        """Ask another node to renew attempts whose stream is gone."""
        other = next((one for one in process.streams if one.pipe.open), None)
        homeless = process.held.adopt(other) if other and process.renews and process.rehomes else []
        if other and homeless:
            self._world.count("attempts taken along to another node")
            other.send(holding=_messages_of(homeless))

    def _expect_return(self, process: Process) -> None:
        """In a sound world, attempts of a process that died soon go to others, or end."""
        if self._world.sound and process.renews:
            leased = [attempt for attempt, seconds in process.attempts.items() if seconds > LEASE_SECONDS]
            self._world.later(LEASE_SECONDS + RETURN_SECONDS, self._check_returned, process.name, leased)

    async def _check_returned(self, name: str, attempts: list[Key]) -> None:
        await trio.lowlevel.checkpoint()
        for flow_id, action_id, number in attempts:
            book = self._cluster.checker.books[flow_id]
            running = book.flow.running.get(action_id) if book.flow else None
            still = running is not None and running.attempt == number and running.phase == QUEUED
            again = (action_id, number) in book.given_back or book.removed
            self._world.count("attempts of workers that died")
            require(not still or again, "what a lost worker held comes back", f"{name}: {flow_id} {action_id}.{number}")

    async def _use(self, stream: _Stream) -> None:
        rng = self._rng
        await stream.process.thaw()
        rehomes = stream.process.renews and stream.process.rehomes
        stream.send(holding=_messages_of(stream.process.held.adopt(stream) if rehomes else []))
        for action in ACTION_NAMES:
            stream.send(credits=[pb.Credit(actionName=action, count=rng.choice((0, 1, 3, 8)))])
        with trio.move_on_after(rng.choice((0.3, 3.0, 10.0, 40.0))):
            if await self._read(stream, lambda: False):
                return
        if rng.random() < 0.5 or not stream.pipe.open:
            self._world.count("streams that broke")
            return  # the stream is cut in the middle of whatever it carries
        self._world.count("streams that ended")
        stream.send(goodbye=True)
        with trio.move_on_after(CALL_TIMEOUT_SECONDS):
            if await self._read(stream, lambda: stream.got_goodbye and not stream.unanswered):
                return
        if stream.pipe.open:
            stream.pipe.end_request()
            with trio.move_on_after(CALL_TIMEOUT_SECONDS):
                await self._read(stream, lambda: False)

    async def _read(self, stream: _Stream, is_done: Callable[[], bool]) -> bool:
        """Handle messages until the stream ends (True) or `is_done` (False)."""
        rng = self._rng
        async for reply in stream.pipe.replies():
            await stream.process.thaw()
            message = reply.SerializeToString()
            for attempt in read_attempts(message):
                self._begin(stream, attempt)
            reply_message = pb.ServerMessage.FromString(message)
            if reply_message.asks:
                self._answer(stream, reply_message.asks)
            stream.got_goodbye |= reply_message.goodbye
            for taken in reply_message.taken:
                self._take(stream, taken)
            if self._unlucky(self._world.profile.worker_deaths / 2):
                if rng.random() < 0.4:
                    self._world.note(f"{stream.name} stands still")
                    self._world.count("workers stood still")
                    stream.process.frozen_until = trio.current_time() + rng.choice((0.5, 3.0, 9.0))
                    continue
                self._world.note(f"{stream.name} dies")
                self._world.count("workers died")
                for one in stream.process.streams:
                    one.unanswered.clear()
                stream.process.gone.set()
                await trio.sleep_forever()
            if is_done():
                return False
            if rng.random() < 0.05:  # it stops reading, and the stream is cut
                self._world.count("streams that were left unread")
                stream.reads = False
                await trio.sleep(rng.uniform(0, 1.5))
                return True
            if rng.random() < 0.3:  # it reads slowly
                await trio.sleep(rng.choice((0.001, 0.3, 1.0)))
        return True

    def _begin(self, stream: _Stream, attempt: Attempt) -> None:
        rng = self._rng
        self._cluster.checker.record_received(attempt, stream.name)
        self._world.count("attempts that came on streams")
        stream.process.held.add(attempt.key, stream)
        stream.process.attempts[attempt.key] = attempt.timeout_seconds
        self._nursery.start_soon(self._work_long, stream, attempt)
        if not stream.pipe.open:
            return
        change = rng.choice((0, 1, 1, 1, 2, -1))
        stream.send(credits=[pb.Credit(actionName=attempt.name, count=change)])
        if rng.random() < 0.2:
            stream.send(extend=_messages_of([attempt.key]))
        if rng.random() < 0.3:
            self._nursery.start_soon(self._extend_late, stream, attempt)

    async def _work_long(self, stream: _Stream, attempt: Attempt) -> None:
        """Work on an attempt, sometimes for longer than a lease."""
        await trio.sleep(self._rng.choice((0.0, 0.0, 0.0, 1.5, 2.5, 4.0)))
        await self._work(attempt, stream.name, partial(self._return_result, stream))

    async def _extend_late(self, stream: _Stream, attempt: Attempt) -> None:
        """Ask for more time at the last moment or too late; if it is granted, that must hold."""
        rng, seconds = self._rng, float(attempt.timeout_seconds)
        just_then = seconds + rng.choice((0.0, 0.002, 0.01, 0.03, 0.5))
        about_then = seconds * rng.choice((rng.uniform(0.97, 1.05), rng.uniform(1, 1.6)))
        await trio.sleep(rng.choice((just_then, about_then)))
        if stream.pipe.open and stream.process.is_running:
            self._world.count("extensions at the last moment")
            stream.send(extend=_messages_of([attempt.key]))

    def _answer(self, stream: _Stream, asks: Any) -> None:
        """Answer a node that asks which attempts this worker holds."""
        asked = [(ask.flowId, ask.actionId, ask.retryCount) for ask in asks]
        held, missing = stream.process.held.split(asked, stream)
        self._world.count("questions to workers")
        for attempt in missing:
            self._cluster.checker.missing[(*attempt, stream.name)] = trio.current_time()
        stream.send(holding=_messages_of(held), missing=_messages_of(missing), upMillis=stream.process.held.up_ms)

    def _return_result(self, stream: _Stream, result: Result) -> None:
        process = stream.process
        if process.gone.is_set():
            return  # the result died with the process
        if not process.is_running:
            self._world.later(process.frozen_until - trio.current_time(), self._return_result_late, stream, result)
            return
        if not stream.pipe.open or self._rng.random() < 0.2:
            self._nursery.start_soon(self._push, result)
            return
        message = pb.ActionResult(
            flowId=result.flow_id, actionId=result.action_id, retryCount=result.attempt, workerId=result.worker
        )
        if result.error is None:
            fill_map(message.data, result.output)
        else:
            message.status, message.error = pb.ActionResult.FAIL, result.error
        number = stream.send(results=[message])
        stream.unanswered[number] = result
        self._nursery.start_soon(self._push_if_unanswered, stream, number)

    async def _return_result_late(self, stream: _Stream, result: Result) -> None:
        await trio.lowlevel.checkpoint()
        self._return_result(stream, result)

    async def _push_if_unanswered(self, stream: _Stream, number: int) -> None:
        await trio.sleep(CALL_TIMEOUT_SECONDS)
        result = stream.unanswered.pop(number, None)
        if result is not None:
            await self._push(result)

    def _take(self, stream: _Stream, taken: Any) -> None:
        result = stream.unanswered.pop(taken.number, None)
        (outcome,) = taken.outcomes
        require(outcome.code != Code.INVALID_ARGUMENT, "a good result is not refused", outcome.message)
        if result is None:
            return  # the result was pushed elsewhere meanwhile
        self._world.note(f"{result.flow_id} {result.action_id}.{result.attempt} of {result.worker}: {outcome.code}")
        if outcome.code:
            self._nursery.start_soon(self._push, result)
        else:
            self._check(result, "taken" if outcome.status else "removed")
            self._forget(result)

    async def _push(self, result: Result) -> None:
        await super()._push(result)
        self._forget(result)

    def _forget(self, result: Result) -> None:
        """A node has the result, so the attempt is not held any more."""
        process, attempt = (
            self._cluster.checker.processes[result.worker],
            (result.flow_id, result.action_id, result.attempt),
        )
        process.held.remove(attempt)
        process.attempts.pop(attempt, None)


def _messages_of(attempts: Any) -> list[Any]:
    return [
        pb.Attempt(flowId=flow_id, actionId=action_id, retryCount=number) for flow_id, action_id, number in attempts
    ]
