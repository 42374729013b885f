"""Work comes in and results go out on one stream to each server: no polls, and no call for each result.

A server hands out as many attempts as it has credit for (`credits`); the result of an attempt goes back on the stream
that it came on, together with the credit for the next one. All that is there to be said at the same moment leaves in
one message. A result that a stream can't bring home (it broke, or its server is slow) is pushed like any other.

A stop, or a server that is about to stop, says goodbye: there is no more work then, but results are still taken.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from functools import partial

import attrs
import trio

from orchy.rpc.channel import Channel, ConnectionLost, MessageStream
from orchy.rpc.framing import Status
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.worker.action import Attempt, RegisteredAction
from orchy.worker.credits import Credits
from orchy.worker.notices import Notice
from orchy.worker.results import BYTES_PER_CALL, RESULTS_PER_CALL, UNPUSHED_MIN, Results
from orchy.worker.servers import WORK_METHOD, Servers

#: How long a server may take for results before they are pushed elsewhere.
ANSWER_SECONDS = 5.0
LOOK_SECONDS = 1.0
#: How long the last work is waited for when the worker stops.
GOODBYE_SECONDS = 0.5
#: When a stream broke whose connection did not, the next one is opened after so long.
AGAIN_SECONDS = 1.0
EXTENSIONS_PER_MESSAGE = 1_000

log = logging.getLogger("orchy.worker")


@attrs.define(eq=False)
class _Desk:
    """One action: its slots, and how many of its results are unanswered."""

    action: RegisteredAction
    credits: Credits[_Stream]
    unpushed: int = 0
    slots_owed: int = 0

    @property
    def unpushed_max(self) -> int:
        return max(UNPUSHED_MIN, self.action.slots)


@attrs.frozen
class _Done:
    """A result on its way."""

    desk: _Desk
    result: pb.ActionResult


class Streams:
    """The streams of a worker. Tasks of what came run in `work`, and so do streams until nothing of theirs is left."""

    def __init__(
        self,
        actions: Mapping[str, RegisteredAction],
        slots: Mapping[str, trio.Semaphore],
        servers: Servers,
        results: Results,
        work: trio.Nursery,
        worker_id: str,
    ) -> None:
        self._slots = slots
        self._servers = servers
        self._results = results
        self._work = work
        self._worker_id = worker_id
        self._streams: dict[Channel, _Stream] = {}
        self._leaving = False
        self._over = False
        self.desks = {name: _Desk(action, Credits(0)) for name, action in actions.items()}

    async def run(self, stop: trio.Event) -> None:
        """Keep a stream to each server, as they come and go, until `stop` and a goodbye from each."""
        async with trio.open_nursery() as nursery:
            for desk in self.desks.values():
                nursery.start_soon(self._take_slots, desk)
            nursery.start_soon(self._supervise)
            nursery.start_soon(self._take_turns)
            await stop.wait()
            nursery.cancel_scope.cancel()
        self._leaving = True
        streams = list(self._streams.values())
        with trio.move_on_after(GOODBYE_SECONDS):
            for stream in streams:
                stream.say_goodbye()
            for stream in streams:
                await stream.heard_goodbye.wait()
        self._over = True
        for desk in self.desks.values():
            for stream in list(desk.credits.credit):
                desk.credits.leave(stream)
            for _ in range(desk.credits.idle):
                self._slots[desk.action.definition.name].release()

    async def _take_slots(self, desk: _Desk) -> None:
        """All slots of an action, as soon as polls that there were before have let go of them."""
        for _ in range(desk.action.slots):
            await self._slots[desk.action.definition.name].acquire()
            self._tell(desk, desk.credits.add_slot())

    async def _supervise(self) -> None:
        while True:
            channels = self._servers.channels()
            for channel in channels:
                if channel not in self._streams:
                    self._streams[channel] = _Stream(self, channel, self._worker_id)
                    self._work.start_soon(self._keep, channel)
            for channel, stream in self._streams.items():
                if channel not in channels:
                    stream.say_goodbye()
            await self._servers.changed()

    async def _keep(self, channel: Channel) -> None:
        """One stream after the other; what each leaves behind is pushed."""
        try:
            while True:
                stream = self._streams[channel]
                await stream.run()
                for done in stream.take_unanswered():
                    self.push(done)
                if not self._leaving:
                    with trio.move_on_after(AGAIN_SECONDS):
                        await channel.ending()
                if self._leaving or channel not in self._servers.channels():
                    return
                self._streams[channel] = _Stream(self, channel, self._worker_id)
        finally:
            del self._streams[channel]

    async def _take_turns(self) -> None:
        """Where the slots are too few for all servers, each has credit in its turn."""
        interval_seconds = min(desk.action.poll_interval_seconds for desk in self.desks.values())
        while True:
            await trio.sleep(interval_seconds)
            for desk in self.desks.values():
                self._tell(desk, desk.credits.turn())

    # What streams say.

    def opened(self, stream: _Stream) -> None:
        """A stream can have credit."""
        for desk in self.desks.values():
            self._tell(desk, desk.credits.join(stream))

    def closed(self, stream: _Stream) -> None:
        """There will be no more work on it."""
        for desk in self.desks.values():
            self._tell(desk, desk.credits.leave(stream))

    def came(self, stream: _Stream, message: pb.Action) -> None:
        """An attempt was handed out."""
        desk = self.desks.get(message.actionName)
        if desk is None:
            log.error("an attempt of %r came, which nobody asked for", message.actionName)
            return
        stream.held += 1
        self._tell(desk, desk.credits.came(stream))
        self._work.start_soon(self._run, desk, stream, message)

    async def _run(self, desk: _Desk, stream: _Stream, message: pb.Action) -> None:
        """One attempt, from its data to its result on the stream."""
        result = await desk.action.run(message, self._worker_id, partial(self._extend, stream))
        desk.unpushed += 1
        if desk.unpushed <= desk.unpushed_max:
            self._free(desk)
        else:
            desk.slots_owed += 1
        stream.bring(_Done(desk, result))

    def _free(self, desk: _Desk) -> None:
        if self._over:
            desk.credits.freed()
            self._slots[desk.action.definition.name].release()
        else:
            self._tell(desk, desk.credits.freed())

    def answered(self, done: _Done, outcome: pb.PushOutcome) -> None:
        """A server says what became of a result."""
        if self._results.is_done(done.result, outcome.code, outcome.message, outcome.status):
            self.finished(done)
        else:
            self.push(done)

    def finished(self, done: _Done) -> None:
        """A result is with a server, or nobody's."""
        done.desk.unpushed -= 1
        if done.desk.slots_owed:
            done.desk.slots_owed -= 1
            self._free(done.desk)

    def push(self, done: _Done) -> None:
        """Have a result brought home by calls."""
        self._work.start_soon(self._push, done)

    async def _push(self, done: _Done) -> None:
        await self._results.push(done.result)
        self.finished(done)

    def _extend(self, stream: _Stream, attempt: Attempt, over: trio.Event) -> None:
        """Where the attempt came from, or else wherever somebody listens."""
        for candidate in (stream, *self._streams.values()):
            if candidate.is_open:
                candidate.extend(attempt, over)
                return

    def _tell(self, desk: _Desk, changes: Mapping[_Stream, int]) -> None:
        for stream, change in changes.items():
            stream.change_credit(desk.action.definition.name, change)


class _Stream:
    """The one to a server. `held`: attempts that came on it and whose results are not with a server."""

    def __init__(self, streams: Streams, channel: Channel, worker_id: str) -> None:
        self._streams = streams
        self._channel = channel
        self._worker_id = worker_id
        self._notice = Notice()
        self._number = 0
        self._credit: dict[str, int] = {}
        self._done: deque[_Done] = deque()
        self._extensions: deque[tuple[Attempt, trio.Event]] = deque()
        self._unanswered: dict[int, tuple[float, list[_Done]]] = {}
        self._extending: dict[int, list[trio.Event]] = {}
        self._changed = trio.Event()
        self._goodbye = False
        self._said_goodbye = False
        self.heard_goodbye = trio.Event()
        self.is_open = False
        self.held = 0

    async def run(self) -> None:
        """Until it breaks, or until all is said after a goodbye."""
        try:
            async with self._channel.stream(WORK_METHOD, pb.ServerMessage) as stream, trio.open_nursery() as nursery:
                self.is_open = True
                nursery.start_soon(self._write, stream)
                nursery.start_soon(self._look_at_time)
                self._streams.opened(self)
                async for message in stream:
                    self._take(message)
                nursery.cancel_scope.cancel()
        except* Status as group:
            self._notice.warn(f"a stream ended: {group.exceptions[0]}")
        except* ConnectionLost as group:
            log.debug("a stream ended: %s", group.exceptions[0])
        finally:
            self.is_open = False
            self.heard_goodbye.set()
            self._streams.closed(self)

    def take_unanswered(self) -> list[_Done]:
        """The results that are not known to be with the server, after the end."""
        left = [done for _, batch in self._unanswered.values() for done in batch]
        left += self._done
        self._unanswered.clear()
        self._done.clear()
        return left

    # What is to be said.

    def change_credit(self, action_name: str, change: int) -> None:
        """The server may hand out more, or fewer."""
        self._credit[action_name] = self._credit.get(action_name, 0) + change
        self._changed.set()

    def bring(self, done: _Done) -> None:
        """Take a result to the server; elsewhere, if that can't be."""
        self.held -= 1
        if self.is_open and done.result.ByteSize() <= BYTES_PER_CALL:
            self._done.append(done)
        else:
            self._streams.push(done)
        self._changed.set()

    def extend(self, attempt: Attempt, over: trio.Event) -> None:
        """Let an attempt have its whole time again; `over` is set if it is too late for that."""
        self._extensions.append((attempt, over))
        self._changed.set()

    def say_goodbye(self) -> None:
        """No more work."""
        self._goodbye = True
        self._streams.closed(self)
        self._changed.set()

    async def _write(self, stream: MessageStream) -> None:
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            while (message := self._next_message()) is not None:
                await stream.send(message)
            if self._said_goodbye and not self.held and not self._done and not self._unanswered:
                stream.end()
                return

    def _next_message(self) -> pb.WorkerMessage | None:
        goodbye = self._goodbye and not self._said_goodbye
        if not (self._credit or self._done or self._extensions or goodbye):
            return None
        self._number += 1
        message = pb.WorkerMessage(number=self._number, goodbye=goodbye)
        if self._number == 1:
            message.workerId = self._worker_id
        for name, change in self._credit.items():
            if change:
                message.credits.add(actionName=name, count=change)
        self._credit.clear()
        if self._done:
            batch = self._next_batch()
            message.results.extend(done.result for done in batch)
            self._unanswered[self._number] = (trio.current_time(), batch)
        if self._extensions:
            taken = [self._extensions.popleft() for _ in range(min(len(self._extensions), EXTENSIONS_PER_MESSAGE))]
            message.extend.extend(pb.Attempt(flowId=f, actionId=a, retryCount=n) for (f, a, n), _ in taken)
            self._extending[self._number] = [over for _, over in taken]
        self._said_goodbye |= goodbye
        return message

    def _next_batch(self) -> list[_Done]:
        batch: list[_Done] = []
        size_bytes = 0
        while self._done and len(batch) < RESULTS_PER_CALL and size_bytes < BYTES_PER_CALL:
            size_bytes += self._done[0].result.ByteSize()
            batch.append(self._done.popleft())
        return batch

    # What the server says.

    def _take(self, message: pb.ServerMessage) -> None:
        for action in message.actions:
            self._streams.came(self, action)
        for taken in message.taken:
            _, batch = self._unanswered.pop(taken.number, (0.0, []))
            if len(taken.outcomes) != len(batch):
                for done in batch:
                    self._streams.push(done)
                continue
            for done, outcome in zip(batch, taken.outcomes, strict=True):
                self._streams.answered(done, outcome)
        for extended in message.extended:
            for over, good in zip(self._extending.pop(extended.number, ()), extended.extended, strict=False):
                if not good:
                    over.set()
        if message.goodbye:
            self.heard_goodbye.set()
            self.say_goodbye()
        if self._said_goodbye:
            self._changed.set()  # it may be the end

    async def _look_at_time(self) -> None:
        """Results that the server does not answer are pushed elsewhere; it answers for those that it took twice."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            now = trio.current_time()
            late = [number for number, (at, _) in self._unanswered.items() if now - at > ANSWER_SECONDS]
            for number in late:
                for done in self._unanswered.pop(number)[1]:
                    self._streams.push(done)
            if late:
                self._notice.warn("a server does not answer for results, they are pushed again")
                self._changed.set()
