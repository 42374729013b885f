"""One stream to each server carries work in and results out: no polls, and no call for each result.

A server hands out as many attempts as it has credit for (`credits`); the result of an attempt goes back on the stream
that it came on, together with the credit for the next one. A result that a stream can't deliver is pushed by a call; an
extension that can't be sent waits for the next stream.

A worker or a server that is about to stop says goodbye: then no more work comes, but results are still taken.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

import attrs
import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.channel import Channel
from orchy.worker.action import Attempt, RegisteredAction
from orchy.worker.credits import Credits
from orchy.worker.held import HeldAttempts
from orchy.worker.logs import DedupLog
from orchy.worker.parameters import Parameters
from orchy.worker.results import ResultPusher
from orchy.worker.server_pool import ServerPool
from orchy.worker.stream import FinishedAttempt, Stream

log = logging.getLogger("orchy.worker")


class _Phase(Enum):
    """How far a stop has come."""

    WORKING = "working"
    LEAVING = "leaving"  # goodbyes are said; no stream is opened any more
    OVER = "over"  # no more work comes: slots go back as they get free


@attrs.define(eq=False)
class _SlotPool:
    """One action: the slots that it has of its own, and how many of its results are unanswered."""

    action: RegisteredAction
    slots: trio.Semaphore
    slots_max: int
    unpushed_max: int
    credits: Credits[Stream] = attrs.field(factory=lambda: Credits(0))
    slots_taken: int = 0
    unpushed: int = 0
    slots_withheld: int = 0

    def return_slots(self) -> None:
        """Release the slots that are not in use, for the polls."""
        while self.slots_taken > self.credits.running:
            self.slots_taken -= 1
            self.slots.release()


class Streams:
    """The streams of a worker. Tasks of what came run in `work`, and so do streams until nothing of theirs is left.

    `extend` is how a function asks for more time: it ends up in the method of that name.
    """

    def __init__(
        self,
        actions: Mapping[str, RegisteredAction],
        slots: Mapping[str, trio.Semaphore],
        servers: ServerPool,
        results: ResultPusher,
        work: trio.Nursery,
        worker_id: str,
        extend: Callable[[Attempt, trio.Event], None],
        held: HeldAttempts,
        parameters: Parameters,
    ) -> None:
        self._parameters = parameters
        self._held = held
        self._servers = servers
        self._results = results
        self._work = work
        self._worker_id = worker_id
        self._extend = extend
        self._streams: dict[Channel, Stream] = {}
        self._extensions: dict[Attempt, trio.Event] = {}  # that wait for a stream
        self._phase = _Phase.WORKING
        too_many = max(1.0, sum(action.slots for action in actions.values()) / parameters.slots_max)
        self._pools = {
            name: _SlotPool(
                action, slots[name], max(1, int(action.slots / too_many)), max(parameters.unpushed_min, action.slots)
            )
            for name, action in actions.items()
        }

    async def run(self, stop: trio.Event) -> None:
        """Keep a stream to each server, as they come and go, until `stop` and a goodbye from each."""
        async with trio.open_nursery() as nursery:
            for pool in self._pools.values():
                nursery.start_soon(self._take_slots, pool)
                nursery.start_soon(self._take_turns, pool)
            nursery.start_soon(self._supervise)
            await stop.wait()
            nursery.cancel_scope.cancel()
        self._phase = _Phase.LEAVING
        streams = list(self._streams.values())
        with trio.move_on_after(self._parameters.goodbye_seconds):
            for stream in streams:
                stream.say_goodbye()
            for stream in streams:
                await stream.wait_goodbye()
        self._phase = _Phase.OVER
        for pool in self._pools.values():
            pool.return_slots()

    async def _take_slots(self, pool: _SlotPool) -> None:
        """Take all slots of an action, as soon as the polls that there were before release them."""
        while pool.slots_taken < pool.slots_max:
            await pool.slots.acquire()
            pool.slots_taken += 1
            self._notify(pool, pool.credits.add_slot())

    async def _supervise(self) -> None:
        while True:
            channels = self._servers.channels()
            for channel in channels:
                if channel not in self._streams and self._servers.has_streams(channel):
                    self._work.start_soon(self._keep, channel, self._open(channel, DedupLog()))
            for channel, stream in self._streams.items():
                if channel not in channels:
                    stream.say_goodbye()
            await self._servers.changed()

    def _open(self, channel: Channel, dedup_log: DedupLog) -> DedupLog:
        self._streams[channel] = Stream(self, channel, self._worker_id, dedup_log, self._parameters)
        return dedup_log

    async def _keep(self, channel: Channel, dedup_log: DedupLog) -> None:
        """Keep a stream to a server, one after the other."""
        try:
            while True:
                await self._streams[channel].run()
                if self._phase is _Phase.WORKING:
                    with trio.move_on_after(self._parameters.reopen_seconds):
                        await channel.ending()
                if self._phase is not _Phase.WORKING or channel not in self._servers.channels():
                    return
                self._open(channel, dedup_log)
        finally:
            del self._streams[channel]

    async def _take_turns(self, pool: _SlotPool) -> None:
        """Where there are fewer slots than servers, give each server a turn, about once in a poll interval."""
        while True:
            await trio.sleep(
                max(self._parameters.turn_seconds, pool.action.poll_interval_seconds / max(1, len(self._streams)))
            )
            self._notify(pool, pool.credits.turn())
            while pool.credits.asking:
                await trio.sleep(self._parameters.turn_seconds)
                self._notify(pool, pool.credits.end_turn())

    def extend(self, attempt: Attempt, over: trio.Event) -> None:
        """Ask any server for the whole time again for an attempt; `over` is set if it is too late for that."""
        open_streams = [stream for stream in self._streams.values() if stream.is_open]
        if open_streams:
            min(open_streams, key=lambda stream: stream.is_unresponsive).extend(attempt, over)
        else:
            self._extensions[attempt] = over

    # What streams tell us (`StreamOwner`).

    def opened(self, stream: Stream) -> None:
        """A stream can have credit."""
        if self._phase is _Phase.WORKING:
            for pool in self._pools.values():
                self._notify(pool, pool.credits.join(stream))
        for attempt, over in self._extensions.items():
            stream.extend(attempt, over)
        self._extensions.clear()
        stream.report_held(self._held.adopt(stream))

    def closed(self, stream: Stream) -> None:
        """There will be no more work on it."""
        for pool in self._pools.values():
            self._notify(pool, pool.credits.leave(stream))

    def lost(self, stream: Stream) -> None:
        """A stream is gone: let another server renew the leases of what came on it."""
        self._held.orphan(stream)
        open_streams = [one for one in self._streams.values() if one.is_open]
        if open_streams:
            other = min(open_streams, key=lambda one: one.is_unresponsive)
            other.report_held(self._held.adopt(other))

    def asked(self, stream: Stream, attempts: Sequence[Attempt]) -> None:
        """A server wants to know whether these are held."""
        held, missing = self._held.split(attempts, stream)
        stream.report_held(held)
        stream.report_missing(missing)

    @property
    def up_ms(self) -> int:
        """For how long the worker has been running."""
        return self._held.up_ms

    def received(self, stream: Stream, message: pb.Action) -> None:
        """An attempt was handed out."""
        pool = self._pools.get(message.actionName)
        if pool is None:
            stream.held -= 1
            log.error("an attempt of %r came, which nobody asked for", message.actionName)
            return
        self._held.add((message.flowId, message.actionId, message.retryCount), stream)
        self._notify(pool, pool.credits.came(stream))
        self._work.start_soon(self._run, pool, stream, message)

    async def _run(self, pool: _SlotPool, stream: Stream, message: pb.Action) -> None:
        """One attempt, from its data to its result on the stream."""
        result = await pool.action.run(message, self._worker_id, self._extend)
        if self._extensions:
            self._extensions.pop((message.flowId, message.actionId, message.retryCount), None)
        pool.unpushed += 1
        if pool.unpushed <= pool.unpushed_max:
            self._free(pool)
        else:  # results pile up: start no more until some are taken
            pool.slots_withheld += 1
        stream.send_result(FinishedAttempt(message.actionName, result, result.ByteSize()))

    def _free(self, pool: _SlotPool) -> None:
        self._notify(pool, pool.credits.freed())
        if self._phase is _Phase.OVER:
            pool.return_slots()

    def answered(self, done: FinishedAttempt, outcome: pb.PushOutcome) -> None:
        """A server says what became of a result."""
        if self._results.is_settled(done.result, outcome.code, outcome.message, outcome.status):
            self._finished(done)
        else:
            self.push(done)

    def _finished(self, done: FinishedAttempt) -> None:
        """A result is with a server, or no server will take it."""
        self._held.remove((done.result.flowId, done.result.actionId, done.result.retryCount))
        pool = self._pools[done.name]
        pool.unpushed -= 1
        if pool.slots_withheld:
            pool.slots_withheld -= 1
            self._free(pool)

    def push(self, done: FinishedAttempt) -> None:
        """Push a result by calls."""
        self._work.start_soon(self._push, done)

    async def _push(self, done: FinishedAttempt) -> None:
        await self._results.push(done.result)
        self._finished(done)

    def _notify(self, pool: _SlotPool, changes: Mapping[Stream, int]) -> None:
        for stream, change in changes.items():
            stream.change_credit(pool.action.definition.name, change)
