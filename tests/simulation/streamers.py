"""Workers that have a stream to each node: credit out, work in, results back; read slowly, cut off, ended in order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import attrs
import trio

from orchy.orchestrator import Result
from orchy.rpc.framing import Code
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.values import fill_map
from tests.simulation.books import require
from tests.simulation.callers import AGAIN_SECONDS, PATIENCE_SECONDS, Worker
from tests.simulation.decoding import Attempt, read_attempts
from tests.simulation.node import NoAnswer, Node
from tests.simulation.pipe import Pipe
from tests.simulation.workload import ACTION_NAMES


@attrs.define(eq=False)
class _Stream:
    """One, as its worker sees it."""

    pipe: Pipe
    name: str
    unanswered: dict[int, Result] = attrs.field(factory=dict)
    numbers: Any = attrs.field(factory=lambda: count(1))
    heard_goodbye: bool = False

    def say(self, **fields: Any) -> int:
        number = next(self.numbers)
        self.pipe.say(pb.WorkerMessage(number=number, workerId=self.name, **fields))
        return number


class StreamWorker(Worker):
    """A worker process with streams instead of polls."""

    async def run(self) -> None:
        """Have one stream after the other to each node, until cancelled."""
        async with trio.open_nursery() as nursery:
            for node in self._cluster.nodes:
                nursery.start_soon(self._keep, node)

    async def _keep(self, node: Node) -> None:
        while True:
            name = f"s{self._number}.{next(self._lives)}"
            try:
                stream = _Stream(node.open_stream(), name)
            except NoAnswer:
                await trio.sleep(AGAIN_SECONDS)
                continue
            try:
                await self._use(stream)
            finally:
                stream.pipe.cut()
            for result in stream.unanswered.values():
                self._nursery.start_soon(self._push, result)
            await trio.sleep(self._chance.uniform(0, 0.5))

    async def _use(self, stream: _Stream) -> None:
        chance = self._chance
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
            message = reply.SerializeToString()
            for attempt in read_attempts(message):
                self._begin(stream, attempt)
            told = pb.ServerMessage.FromString(message)
            stream.heard_goodbye |= told.goodbye
            for taken in told.taken:
                self._take(stream, taken)
            if self._unlucky(self._world.profile.worker_deaths / 4):
                self._world.note(f"{stream.name} dies")
                self._world.count("workers died")
                stream.unanswered.clear()
                return True
            if is_enough():
                return False
            if chance.random() < 0.05:  # it reads no more, and is cut off
                self._world.count("streams that were left unread")
                await trio.sleep(chance.uniform(0, 1.5))
                return True
            if chance.random() < 0.3:  # it reads slowly
                await trio.sleep(chance.choice((0.001, 0.3, 1.0)))
        return True

    def _begin(self, stream: _Stream, attempt: Attempt) -> None:
        chance = self._chance
        self._cluster.checker.reach(attempt)
        self._world.count("attempts that came on streams")
        self._nursery.start_soon(self._work, attempt, stream.name, partial(self._bring, stream))
        if not stream.pipe.open:
            return
        change = chance.choice((0, 1, 1, 1, 2, -1))
        stream.say(credits=[pb.Credit(actionName=attempt.name, count=change)])
        if chance.random() < 0.2:
            self._extend(stream, attempt)
        if chance.random() < 0.3:  # and as late as may be, or too late
            self._nursery.start_soon(self._extend_late, stream, attempt)

    def _extend(self, stream: _Stream, attempt: Attempt) -> None:
        flow_id, action_id, number = attempt.key
        stream.say(extend=[pb.Attempt(flowId=flow_id, actionId=action_id, retryCount=number)])

    async def _extend_late(self, stream: _Stream, attempt: Attempt) -> None:
        await trio.sleep(
            attempt.timeout_seconds
            * self._chance.choice((self._chance.uniform(0.97, 1.05), self._chance.uniform(1, 1.6)))
        )
        if stream.pipe.open:
            self._extend(stream, attempt)

    def _bring(self, stream: _Stream, result: Result) -> None:
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
