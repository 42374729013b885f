"""Fetches the attempts of one action by polls: one poller for each server.

**Never more than there are slots for.** A poll reserves the slots that it asks for. One that finds work at once takes
all that are free; one that waits for work to come reserves its share only, so that a busy server can use what idle
ones do not need, and one that joins is not kept waiting. Where the slots are too few for a waiting poll at each
server, the pollers take turns, and each server is asked about every `poll_interval_seconds`.

**A stop loses nothing.** An answer that is under way when its poll is cancelled would be work left undone until it
times out. So polls under way have a moment to be answered before they are cancelled.
"""

from __future__ import annotations

import logging

import attrs
import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.channel import Channel, ConnectionLost
from orchy.rpc.grpc.framing import Status
from orchy.worker.action import Extend, RegisteredAction
from orchy.worker.logs import DedupLog
from orchy.worker.parameters import Parameters
from orchy.worker.results import ResultPusher
from orchy.worker.server_pool import ServerPool

log = logging.getLogger("orchy.worker")


@attrs.frozen
class _Answer:
    """How many attempts a poll asked for and got. `is_early`: it was to wait for work, and came back at once."""

    asked: int
    got: int
    is_early: bool = False


class ActionPolls:
    """All pollers of one action."""

    def __init__(
        self,
        action: RegisteredAction,
        slots: trio.Semaphore,
        servers: ServerPool,
        results: ResultPusher,
        work: trio.Nursery,
        worker_id: str,
        extend: Extend,
        parameters: Parameters,
    ) -> None:
        self._parameters = parameters
        self._action = action
        self._extend = extend
        self._servers = servers
        self._results = results
        self._work = work
        self._worker_id = worker_id
        self._slots = slots
        self._unpushed = trio.Semaphore(max(parameters.unpushed_min, action.slots))
        self._turns = trio.CapacityLimiter(1)
        self._polled: set[Channel] = set()
        self._stopping = False

    async def run(self, stop: trio.Event) -> None:
        """Poll all servers, as they come and go, until `stop`."""
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as supervisor:
                supervisor.start_soon(self._supervise, nursery)
                await stop.wait()
                supervisor.cancel_scope.cancel()
            self._stopping = True
            nursery.cancel_scope.deadline = trio.current_time() + self._parameters.last_answer_seconds

    async def _supervise(self, nursery: trio.Nursery) -> None:
        while True:
            channels = self._servers.channels()
            slots = self._action.slots
            enough = len(channels) == 1 or 2 * len(channels) <= slots
            self._turns.total_tokens = max(1, len(channels) if enough else slots // 2)
            for channel in channels:
                if channel not in self._polled:
                    self._polled.add(channel)
                    nursery.start_soon(self._poll_one, channel)
            await self._servers.changed()

    async def _poll_one(self, channel: Channel) -> None:
        """Poll one server while it is one to poll."""
        name, interval_seconds = self._action.definition.name, self._action.poll_interval_seconds
        dedup_log = DedupLog()
        more = True
        try:
            while not self._stopping and channel in self._servers.channels():
                try:
                    if more:
                        answer = await self._poll(channel, wait=False)
                    else:
                        async with self._turns:
                            answer = await self._poll(channel, wait=True)
                        dedup_log.recovered(f"polls for {name} are answered again")
                    more = answer.got >= answer.asked
                    if answer.is_early:
                        await trio.sleep(interval_seconds)
                except (Status, trio.TooSlowError) as error:
                    more = False
                    reason = error.message if isinstance(error, Status) else "it was not answered"
                    dedup_log.warn(f"a poll for {name} failed: {reason}")
                    await trio.sleep(interval_seconds)
        except ConnectionLost as error:
            log.debug("a poll ended: %s", error)  # a new connection gets a poller of its own
        finally:
            self._polled.discard(channel)

    async def _poll(self, channel: Channel, *, wait: bool) -> _Answer:
        """Ask for as many as slots are free, or wait for work with a share of them; start what comes."""
        await self._slots.acquire()
        reserved = 1
        try:
            most = min(self._action.batch_size, self._share() if wait else self._action.slots)
            while reserved < most and self._slots.value:
                self._slots.acquire_nowait()
                reserved += 1
            asked = reserved
            if self._stopping:
                return _Answer(asked, 0)
            wait_seconds = self._wait_seconds() if wait else 0.0
            request = pb.ActionPollRequest(
                actionType=self._action.definition.name,
                batchSize=asked,
                waitMillis=int(wait_seconds * 1000),
                workerId=self._worker_id,
            )
            asked_at = trio.current_time()
            with trio.fail_after(wait_seconds + self._parameters.poll_answer_seconds):
                reply = await channel.call("ActionService/Poll", request, pb.Actions)
            for message in reply.actions:
                self._work.start_soon(self._run, message, reserved > 0)
                reserved = max(0, reserved - 1)
            got = len(reply.actions)
            took_seconds = trio.current_time() - asked_at
            return _Answer(asked, got, not got and took_seconds < wait_seconds * self._parameters.answered_early_share)
        finally:
            for _ in range(reserved):
                self._slots.release()

    def _share(self) -> int:
        """How many slots a poll that waits may keep from the others; it has one."""
        pollers = max(len(self._polled), self._servers.expected)
        return max(1, (self._slots.value + 1) // (pollers + 1))

    def _wait_seconds(self) -> float:
        pollers = len(self._polled)
        if pollers <= self._turns.total_tokens:
            return self._parameters.poll_wait_seconds if self._slots.value else self._parameters.last_slot_wait_seconds
        turn_seconds = self._action.poll_interval_seconds * self._turns.total_tokens / pollers
        return min(self._parameters.poll_wait_seconds, max(self._parameters.poll_wait_min_seconds, turn_seconds))

    async def _run(self, message: pb.Action, has_slot: bool) -> None:
        """One attempt, from its data to its result with a server."""
        if not has_slot:  # a server that gave more than it was asked for
            await self._slots.acquire()
        try:
            result = await self._action.run(message, self._worker_id, self._extend)
            await self._unpushed.acquire()  # keeps the slot where results pile up
        finally:
            self._slots.release()
        try:
            await self._results.push(result)
        finally:
            self._unpushed.release()
