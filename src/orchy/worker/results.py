"""Pushes each result until some server takes it, or says that it never will.

Results that are ready at the same moment leave in one call, and those that follow while calls are under way wait for
the next one: the more there are, the less each costs. A single one leaves at once. An older server, which does not know
PushAll, gets them one by one.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Sequence
from typing import NoReturn
from weakref import WeakSet

import attrs
import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.channel import Channel, ConnectionLost
from orchy.rpc.grpc.framing import Code, Status
from orchy.runtime.gather import gather
from orchy.worker.action import fail
from orchy.worker.logs import DedupLog
from orchy.worker.parameters import Parameters
from orchy.worker.server_pool import ServerPool

log = logging.getLogger("orchy.worker")


@attrs.define(eq=False)
class _Pending:
    """A result, and whether it is settled."""

    result: pb.ActionResult
    done: trio.Event = attrs.field(factory=trio.Event)


class ResultPusher:
    """Pushes results, to another server at each try. `run` does the work."""

    def __init__(self, servers: ServerPool, parameters: Parameters) -> None:
        self._parameters = parameters
        self._servers = servers
        self._dedup_log = DedupLog()
        self._waiting: deque[_Pending] = deque()
        self._came = trio.Event()
        self._calls = trio.Semaphore(parameters.push_calls_max)
        self._one_by_one: WeakSet[Channel] = WeakSet()

    async def push(self, result: pb.ActionResult) -> None:
        """Returns when a server has taken the result, or none ever will. Callers bound it."""
        pending = _Pending(result)
        self._waiting.append(pending)
        self._came.set()
        try:
            await pending.done.wait()
        finally:
            if not pending.done.is_set() and pending in self._waiting:
                self._waiting.remove(pending)

    async def run(self) -> NoReturn:
        """Push until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._came.wait()
                await self._calls.acquire()  # meanwhile more may come
                nursery.start_soon(self._send, self._next_call())
                if not self._waiting:
                    self._came = trio.Event()

    def _next_call(self) -> list[_Pending]:
        call: list[_Pending] = []
        size_bytes = 0
        while self._waiting and len(call) < self._parameters.results_per_call:
            size_bytes += self._waiting[0].result.ByteSize()
            if call and size_bytes > self._parameters.bytes_per_call:
                break
            call.append(self._waiting.popleft())
        return call

    async def _send(self, left: Sequence[_Pending]) -> None:
        """Push until none of them is left."""
        backoff_seconds = self._parameters.push_backoff_min_seconds
        answer_seconds = self._parameters.push_seconds
        try:
            while left:
                for channel in await self._servers.wait_open():
                    left = await self._offer(channel, left, answer_seconds)
                    if not left:
                        return
                    answer_seconds = min(2 * answer_seconds, self._parameters.push_max_seconds)
                await trio.sleep(random.uniform(backoff_seconds / 2, backoff_seconds))
                backoff_seconds = min(2 * backoff_seconds, self._parameters.push_backoff_max_seconds)
        finally:
            self._calls.release()

    async def _offer(self, channel: Channel, left: Sequence[_Pending], answer_seconds: float) -> Sequence[_Pending]:
        """Those that this server did not take."""
        outcomes: Sequence[bool]
        if len(left) == 1 or channel in self._one_by_one:
            outcomes = await gather(lambda one: self._push_once(channel, one.result, answer_seconds), left)
        else:
            outcomes = await self._push_all(channel, [one.result for one in left], answer_seconds)
        for one, done in zip(left, outcomes, strict=True):
            if done:
                one.done.set()
        return [one for one in left if not one.done.is_set()]

    async def _push_once(self, channel: Channel, result: pb.ActionResult, answer_seconds: float) -> bool:
        """Push one; whether it is settled."""
        try:
            with trio.fail_after(answer_seconds):
                reply = await channel.call("ActionService/Push", result, pb.ActionResultPushResponse)
        except Status as status:
            return self.is_settled(result, status.code, status.message)
        except (ConnectionLost, trio.TooSlowError) as error:
            self._warn_lost(error)
            return False
        return self.is_settled(result, Code.OK, status=reply.status)

    async def _push_all(
        self, channel: Channel, results: Sequence[pb.ActionResult], answer_seconds: float
    ) -> Sequence[bool]:
        """Push all in one call; of each, whether it is settled."""
        nothing = [False] * len(results)
        try:
            with trio.fail_after(answer_seconds):
                message = pb.ActionResults(results=results)
                reply = await channel.call("ActionService/PushAll", message, pb.ActionResultsPushResponse)
        except Status as status:
            if status.code is Code.UNIMPLEMENTED:
                self._one_by_one.add(channel)
                return await gather(lambda result: self._push_once(channel, result, answer_seconds), results)
            self._dedup_log.warn(f"results are not taken, they are pushed again: {status.message}")
            return nothing
        except (ConnectionLost, trio.TooSlowError) as error:
            self._warn_lost(error)
            return nothing
        if len(reply.outcomes) != len(results):
            self._dedup_log.warn("a server did not answer for each result; they are pushed again")
            return nothing
        return [
            self.is_settled(result, outcome.code, outcome.message, outcome.status)
            for result, outcome in zip(results, reply.outcomes, strict=True)
        ]

    def is_settled(self, result: pb.ActionResult, code: int, message: str = "", status: bool = False) -> bool:
        """Whether a server's answer settles a result."""
        if code == Code.OK:
            self._dedup_log.recovered("results are taken again")
            if not status:
                log.warning("flow %s is not there any more: a result of it is dropped", result.flowId)
            return True
        if code not in (Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED):
            self._dedup_log.warn(f"results are not taken, they are pushed again: {message}")
            return False
        if result.status == pb.ActionResult.SUCCESS:
            # No server will ever take it; fail the attempt with the reason, or the flow would wait for its timeout.
            fail(result, f"the server refused the result: {message}")
            return False
        log.error("the server refused a result of flow %s: %s", result.flowId, message)
        return True

    def _warn_lost(self, error: Exception) -> None:
        self._dedup_log.warn(f"a result is pushed again: {str(error) or 'the server did not answer'}")
