"""The stream to one server: credit and results out, in as few messages as it takes; work and answers in.

All that is to be sent at the same moment leaves in one message. A result that the stream can't deliver (it broke, or
its server is slow) goes back to its owner, and so does an extension. Where the stream stands says `stream_life`.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import attrs
import trio

from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.channel import Channel, ConnectionLost, MessageStream
from orchy.rpc.grpc.framing import Status
from orchy.worker.action import Attempt
from orchy.worker.logs import DedupLog
from orchy.worker.parameters import Parameters
from orchy.worker.server_pool import WORK_METHOD
from orchy.worker.stream_life import SENDS, Effect, State, Trigger, row_for

log = logging.getLogger("orchy.worker")


@attrs.frozen(eq=False)
class FinishedAttempt:
    """The result of an attempt, on its way."""

    name: str
    result: pb.ActionResult
    size_bytes: int


@attrs.define
class _Sent:
    """What waits for an answer, and since when."""

    at: float
    batch: list[FinishedAttempt] = attrs.field(factory=list)
    extensions: dict[Attempt, trio.Event] = attrs.field(factory=dict)


class StreamOwner(Protocol):
    """What a stream tells whoever opened it."""

    def opened(self, stream: Stream) -> None:
        """It can have credit."""
        ...

    def closed(self, stream: Stream) -> None:
        """There will be no more work on it."""
        ...

    def received(self, stream: Stream, message: pb.Action) -> None:
        """An attempt was handed out."""
        ...

    def answered(self, done: FinishedAttempt, outcome: pb.PushOutcome) -> None:
        """A server says what became of a result."""
        ...

    def push(self, done: FinishedAttempt) -> None:
        """Have a result pushed by calls."""
        ...

    def asked(self, stream: Stream, attempts: Sequence[Attempt]) -> None:
        """A server wants to know whether these are held."""
        ...

    def lost(self, stream: Stream) -> None:
        """It is gone: its server renews no lease any more."""
        ...

    @property
    def up_ms(self) -> int:
        """For how long the worker has been running."""
        ...

    def extend(self, attempt: Attempt, over: trio.Event) -> None:
        """Have an attempt extended on another stream."""
        ...


class Stream:
    """The one to a server. `held` counts the attempts that came on it and whose results are not sent yet;
    `is_unresponsive`: the server does not answer just now.
    """

    def __init__(
        self, owner: StreamOwner, channel: Channel, worker_id: str, dedup_log: DedupLog, parameters: Parameters
    ) -> None:
        self._parameters = parameters
        self._owner = owner
        self._channel = channel
        self._worker_id = worker_id
        self._dedup_log = dedup_log
        self._number = 0
        self._credit: dict[str, int] = {}
        self._done: deque[FinishedAttempt] = deque()
        self._extensions: dict[Attempt, trio.Event] = {}
        self._unanswered: dict[int, _Sent] = {}
        self._unextended: dict[int, _Sent] = {}
        self._changed = trio.Event()
        self._holding: list[Attempt] = []
        self._missing: list[Attempt] = []
        self._lease_seconds: float | None = None  # of a server that has leases
        self._heartbeat_due = False
        self._state = State.OPENING
        self._effects: Mapping[Effect, Callable[[Stream], None]] = {
            Effect.OFFER: owner.opened,
            Effect.WITHDRAW: owner.closed,
            Effect.LOSE: owner.lost,
        }
        self._leaving_since = math.inf
        self._goodbye_heard = trio.Event()
        self.is_unresponsive = False
        self.held = 0

    def _on(self, trigger: Trigger) -> bool:
        """Let something happen, as `stream_life` has it; whether it did anything."""
        row = row_for(self._state, trigger)
        if row is None:
            return False
        self._state = row.leads_to
        for effect in row.effects:
            self._effects[effect](self)
        self._changed.set()
        return True

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._state in SENDS

    async def run(self) -> None:
        """Until it breaks, or all is sent after a goodbye; what was not delivered then goes back to its owner."""
        try:
            async with self._channel.stream(WORK_METHOD, pb.ServerMessage) as stream, trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream, nursery.cancel_scope)
                nursery.start_soon(self._check_answers)
                nursery.start_soon(self._heartbeat)
                self._on(Trigger.OPENED)
                self._dedup_log.recovered("a stream is open again")
                async for message in stream:
                    self._take(message)
                nursery.cancel_scope.cancel()
        except* Status as group:
            self._dedup_log.warn(f"a stream ended: {group.exceptions[0]}")
        except* ConnectionLost as group:
            log.debug("a stream ended: %s", group.exceptions[0])
        finally:
            self._goodbye_heard.set()
            self._on(Trigger.GONE)
        self._return_unsent(list(self._unanswered), list(self._unextended))

    # What is to be sent.

    def change_credit(self, action_name: str, change: int) -> None:
        """The server may hand out more, or fewer."""
        self._credit[action_name] = self._credit.get(action_name, 0) + change
        self._changed.set()

    def send_result(self, done: FinishedAttempt) -> None:
        """Deliver the result of an attempt that came on this stream, here or, if that can't be, by its owner."""
        self.held -= 1
        if self.is_open and not self.is_unresponsive and done.size_bytes <= self._parameters.bytes_per_call:
            self._done.append(done)
        else:
            self._owner.push(done)
        self._changed.set()

    def extend(self, attempt: Attempt, over: trio.Event) -> None:
        """Ask for the whole time again for an attempt; `over` is set if it is too late for that."""
        self._extensions[attempt] = over
        self._changed.set()

    def report_held(self, attempts: Sequence[Attempt]) -> None:
        """Say that these are held, so that the server renews their leases."""
        self._holding.extend(attempts)
        self._changed.set()

    def report_missing(self, attempts: Sequence[Attempt]) -> None:
        """Say that these, which the server asked about, are not held."""
        self._missing.extend(attempts)
        self._changed.set()

    async def _heartbeat(self) -> None:
        """Send something often enough to keep the lease, whatever the functions do."""
        while True:
            if self._lease_seconds is None:  # the server has not said yet that it has leases
                await trio.sleep(self._parameters.check_seconds)
            else:
                await trio.sleep(self._lease_seconds * self._parameters.heartbeat_share)
                self._heartbeat_due = True
                self._changed.set()

    def say_goodbye(self) -> None:
        """Take no more work; end when all that is held is delivered."""
        if self._on(Trigger.LEAVE):
            self._leaving_since = trio.current_time()

    async def wait_goodbye(self) -> None:
        """Returns when the server has confirmed that no more work comes, or the stream is no more."""
        await self._goodbye_heard.wait()

    async def _write(self, stream: MessageStream, scope: trio.CancelScope) -> None:
        while not self._all_sent():
            await self._changed.wait()
            self._changed = trio.Event()
            while (message := self._next_message()) is not None:
                await stream.send(message)
        self._on(Trigger.ALL_SENT)
        stream.end()
        await trio.sleep(self._parameters.goodbye_seconds)  # if the server does not end it now, it never will
        scope.cancel()

    def _all_sent(self) -> bool:
        if self._state is not State.PARTING or self.held or self._done or self._unanswered:
            return False
        waited_seconds = trio.current_time() - self._leaving_since
        return self._goodbye_heard.is_set() or waited_seconds > self._parameters.goodbye_seconds

    def _next_message(self) -> pb.WorkerMessage | None:
        goodbye = self._state is State.LEAVING
        batch = self._next_batch() if len(self._unanswered) < self._parameters.result_messages_max else []
        extensions = self._next_extensions() if len(self._unextended) < self._parameters.extension_messages_max else {}
        leases = self._holding or self._missing or self._heartbeat_due
        if not (self._credit or batch or extensions or goodbye or leases):
            return None
        self._number += 1
        message = pb.WorkerMessage(number=self._number, goodbye=goodbye)
        if self._number == 1:
            message.workerId = self._worker_id
            message.renews = True
        for name, change in self._credit.items():
            if change:
                message.credits.add(actionName=name, count=change)
        self._credit.clear()
        if batch:
            message.results.extend(done.result for done in batch)
            self._unanswered[self._number] = _Sent(trio.current_time(), batch=batch)
        if extensions:
            message.extend.extend(_messages_of(extensions))
            self._unextended[self._number] = _Sent(trio.current_time(), extensions=extensions)
        if leases:
            self._add_held_attempts(message)
        if goodbye:
            self._on(Trigger.GOODBYE_SENT)
        return message

    def _add_held_attempts(self, message: pb.WorkerMessage) -> None:
        self._heartbeat_due = False
        most = self._parameters.held_per_message
        message.holding.extend(_messages_of(self._holding[:most]))
        message.missing.extend(_messages_of(self._missing[:most]))
        message.upMillis = self._owner.up_ms
        del self._holding[:most], self._missing[:most]

    def _next_batch(self) -> list[FinishedAttempt]:
        batch: list[FinishedAttempt] = []
        size_bytes = 0
        results_max, bytes_max = self._parameters.results_per_call, self._parameters.bytes_per_call
        while self._done and len(batch) < results_max and size_bytes < bytes_max:
            size_bytes += self._done[0].size_bytes
            batch.append(self._done.popleft())
        return batch

    def _next_extensions(self) -> dict[Attempt, trio.Event]:
        attempts = list(self._extensions)[: self._parameters.extensions_per_message]
        return {attempt: self._extensions.pop(attempt) for attempt in attempts}

    # What the server says.

    def _take(self, message: pb.ServerMessage) -> None:
        for action in message.actions:
            self.held += 1
            self._owner.received(self, action)
        if message.leaseMillis:
            self._lease_seconds = message.leaseMillis / 1000
        if message.asks:
            self._owner.asked(self, [(asked.flowId, asked.actionId, asked.retryCount) for asked in message.asks])
        for taken in message.taken:
            self._take_outcomes(self._unanswered.pop(taken.number, _Sent(0.0)).batch, taken.outcomes)
        for extended in message.extended:
            waiting = self._unextended.pop(extended.number, _Sent(0.0)).extensions
            for over, good in zip(waiting.values(), extended.extended, strict=False):
                if not good:
                    over.set()
        if message.taken or message.extended:
            self.is_unresponsive = False
            self._changed.set()  # more may be said now, or it may be the end
        if message.goodbye:
            self._goodbye_heard.set()
            self.say_goodbye()
            self._changed.set()

    def _take_outcomes(self, batch: list[FinishedAttempt], outcomes: Sequence[pb.PushOutcome]) -> None:
        if len(outcomes) != len(batch):
            for done in batch:
                self._owner.push(done)
            return
        for done, outcome in zip(batch, outcomes, strict=True):
            self._owner.answered(done, outcome)

    async def _check_answers(self) -> None:
        """Give back what is not answered in time, to be sent elsewhere; a result that arrives twice counts once."""
        while True:
            await trio.sleep(self._parameters.check_seconds)
            before = trio.current_time() - self._parameters.stream_answer_seconds
            unanswered = [number for number, sent in self._unanswered.items() if sent.at < before]
            unextended = [number for number, sent in self._unextended.items() if sent.at < before]
            if unanswered or unextended:
                self.is_unresponsive = True
                self._dedup_log.warn("a server does not answer on its stream: results are pushed again")
                self._return_unsent(unanswered, unextended)
            if self._state is State.PARTING:
                self._changed.set()  # the goodbye may have been waited for long enough

    def _return_unsent(self, unanswered: list[int], unextended: list[int]) -> None:
        """Give the owner back what these messages brought, and what waits to be sent."""
        done = [one for number in unanswered for one in self._unanswered.pop(number).batch] + list(self._done)
        self._done.clear()
        for one in done:
            self._owner.push(one)
        extensions = dict(self._extensions)
        self._extensions.clear()
        for number in unextended:
            extensions = self._unextended.pop(number).extensions | extensions
        for attempt, over in extensions.items():
            self._owner.extend(attempt, over)


def _messages_of(attempts: Iterable[Attempt]) -> list[pb.Attempt]:
    return [pb.Attempt(flowId=flow_id, actionId=action_id, retryCount=n) for flow_id, action_id, n in attempts]
