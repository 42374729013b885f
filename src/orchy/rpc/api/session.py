"""One worker's stream, the meaning of `Work` in the worker API: work out as it appears, results in.

Where the stream stands, and what that means, says `session_life`; here it is carried out. Messages are read in some
tasks and answered in another, so that a worker that reads slowly holds up only its own results.

Why it is fast: attempts are bytes that the commit put there, joined into a message as they are. The results of one
message are stepped together and leave in one write, by the task that read the message; while it waits for the store,
another one reads the next message.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import trio

from orchy.dispatch.attempt_leases import Attempt, AttemptLeases
from orchy.dispatch.demand import Demand
from orchy.dispatch.dispatcher import Dispatcher
from orchy.engine.lost_attempts import Holding, Silence
from orchy.engine.orchestrator import Orchestrator
from orchy.errors import InvalidInput, OrchyError
from orchy.rpc.api.convert import EncodedActions
from orchy.rpc.api.leases import WorkerLease, attempts_of
from orchy.rpc.api.limits import SessionLimits, SessionTiming
from orchy.rpc.api.outcomes import outcome_of, push_all, status_of
from orchy.rpc.api.outgoing import Outgoing
from orchy.rpc.api.session_life import ENDS, SENDS_ATTEMPTS, Effect, State, Trigger, row_for
from orchy.rpc.grpc.framing import Code, Status
from orchy.runtime.gather import gather
from orchy.store.queues import Claimed
from orchy.telemetry.unexpected import Where, note, survive

NAME_CHARACTERS_MAX = 256

log = logging.getLogger(__name__)


class Session:
    """One stream. `reply` and `leave` belong to the call that carries it; `run` is a task of its own, in `nursery`."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        dispatcher: Dispatcher,
        nursery: trio.Nursery,
        leases: AttemptLeases,
        lease_seconds: float,
        limits: SessionLimits,
        timing: SessionTiming,
    ) -> None:
        self._orchestrator = orchestrator
        self._dispatcher = dispatcher
        self._nursery = nursery
        self._leases = leases
        self._limits = limits
        self._timing = timing
        self.lease = WorkerLease(round(lease_seconds * 1000), timing.answer_seconds)
        self.handed_out = 0
        self.worker = ""
        self.status: Status | None = None  # how the call ends, if not well
        self._state = State.OPENING
        self._effects: Mapping[Effect, Callable[[], None]] = {
            Effect.STOP_HANDING_OUT: self._stop_handing_out,
            Effect.SEND_GOODBYE: self._send_goodbye,
            Effect.STOP_READING: self._stop_reading,
            Effect.GIVE_BACK: self._give_back_soon,
        }
        self._changed = trio.Event()
        self._outgoing = Outgoing(self.lease, limits)
        self._demands: dict[str, Demand] = {}
        self._claims: list[trio.CancelScope] = []
        self._no_more_work = trio.Event()
        self._reading: trio.CancelScope | None = None
        self._readers = 0
        self._idle_readers = 0

    def _on(self, trigger: Trigger) -> bool:
        """Let something happen, as `session_life` has it; whether it did anything."""
        row = row_for(self._state, trigger)
        if row is None:
            return False
        self._state = row.leads_to
        for effect in row.effects:
            self._effects[effect]()
        self._notify()
        return True

    def _notify(self) -> None:
        """Let `reply` look whether there is something to send."""
        self._changed.set()

    async def run(self, messages: AsyncIterator[Any]) -> None:
        """Take messages until the worker ends the stream, or `leave`; results that were pushed till then are seen to
        their end.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._settle)
                async with trio.open_nursery() as readers:
                    self._reading = readers.cancel_scope
                    self._on(Trigger.BEGIN)
                    if self._state is State.SERVING:
                        self._add_reader(messages, readers, nursery)
                self._on(Trigger.INPUT_ENDED)
        except* Exception as errors:  # one worker's stream is not the server's end
            note(Where.STREAM, "a worker's stream", errors)
            self.status = Status(Code.INTERNAL, "the server failed; its log says why")
        finally:
            self._on(Trigger.INPUT_ENDED)
            await self._give_back()
            self._on(Trigger.FINISHED)

    def leave(self) -> None:
        """The call is over, the worker perhaps gone."""
        self._outgoing.cancel_sending()
        self._on(Trigger.HANG_UP)

    def expire(self) -> None:
        """The worker was silent for a lease: what has not been sent goes back; what it holds does by its leases."""
        if self._on(Trigger.SILENCE):
            log.warning("worker %s was not heard of for %g s", self.worker, self.lease.lease_ms / 1000)
            self.status = Status(Code.UNAVAILABLE, "nothing was heard of this worker for a lease")

    async def ask(self, attempt: Attempt) -> Holding | Silence:
        """Whether the worker holds an attempt."""
        if attempt in self.lease.held and self._outgoing.has_unsent(attempt):
            return Holding(True)
        if self._state not in SENDS_ATTEMPTS:  # its answer would not be read
            return Silence.SILENT
        self._notify()
        return await self.lease.ask(attempt)

    # Effects.

    def _stop_handing_out(self) -> None:
        for demand in self._demands.values():
            demand.close()
        for scope in self._claims:
            scope.cancel()
        self._no_more_work.set()

    async def _settle(self) -> None:
        """Wait for what was being handed out when that was stopped."""
        await self._no_more_work.wait()
        with trio.move_on_after(self._timing.settle_seconds):
            for demand in self._demands.values():
                await demand.wait_settled()
        self._on(Trigger.SETTLED)

    def _send_goodbye(self) -> None:
        self._outgoing.add_goodbye()

    def _stop_reading(self) -> None:
        """Results that are with the store are waited for: their tasks are shielded."""
        if self._reading is not None:
            self._reading.cancel()

    def _give_back_soon(self) -> None:
        if self._outgoing.has_unsent():
            try:
                self._nursery.start_soon(self._give_back)
            except RuntimeError:  # it is closed: the server is gone in a moment
                log.warning("%d attempts come back by their timeouts", len(self._outgoing))

    async def _give_back(self) -> None:
        """Others shall have what was not sent."""
        with survive(Where.STREAM, "attempts that were not sent"):
            while self._outgoing.has_unsent():
                for action_name, claimed in self._outgoing.take_unsent().items():
                    await self._dispatcher.give_back(action_name, claimed)

    # The worker's messages.

    def _add_reader(self, messages: AsyncIterator[Any], readers: trio.Nursery, nursery: trio.Nursery) -> None:
        self._readers += 1
        self._idle_readers += 1
        readers.start_soon(self._read, messages, readers, nursery)

    async def _read(self, messages: AsyncIterator[Any], readers: trio.Nursery, nursery: trio.Nursery) -> None:
        """Take one message after the other; while this task is busy with one, another task reads."""
        async for message in messages:
            self._idle_readers -= 1
            if not self._idle_readers and self._readers < self._limits.messages_at_once:
                self._add_reader(messages, readers, nursery)
            try:
                self._hear(message)
                if message.credits and self._state is State.SERVING:
                    self._take_credits(message.credits, nursery)
            except InvalidInput as error:
                self.status = status_of(error)
                self._on(Trigger.HANG_UP)
                return
            if message.goodbye:
                self._on(Trigger.NO_MORE_WORK)
            if message.holding:
                with trio.CancelScope(shield=True):
                    await self._renew(attempts_of(message.holding))
            if message.results or message.extend:
                await self._outgoing.reserve_answer()
                with trio.CancelScope(shield=True):
                    await self._answer(message)
            self._idle_readers += 1

    def _hear(self, message: Any) -> None:
        """What a message says of the worker. Raises InvalidInput."""
        items_max = self._limits.items_max
        if len(message.results) > items_max or len(message.extend) > items_max:
            raise InvalidInput(f"a message has at most {items_max} results and {items_max} attempts to extend")
        self.worker = self.worker or message.workerId[:NAME_CHARACTERS_MAX]
        self.lease.heard(message.renews)
        if message.renews:
            self._notify()
        if message.holding or message.missing:
            if max(len(message.holding), len(message.missing)) > items_max:
                raise InvalidInput(f"a message says of at most {items_max} attempts that they are held, or missing")
            self.lease.answer(attempts_of(message.holding), attempts_of(message.missing), message.upMillis)

    async def _answer(self, message: Any) -> None:
        outcomes = extended = None
        if message.results:
            outcomes = await self._push(message.results)
            self.lease.remove_ended(message.results)
        if message.extend:
            extended = await self._extend(message.extend)
        self._outgoing.add_answer(message.number, outcomes, extended)
        self._notify()

    async def _push(self, results: Any) -> list[Any]:
        try:
            return await push_all(self._orchestrator, results)
        except OrchyError as error:
            return [outcome_of(error)] * len(results)

    async def _renew(self, attempts: Sequence[Attempt]) -> None:
        try:
            await self._leases.renew(attempts, self.lease.length_ms)
        except OrchyError as error:  # they are renewed with the next ones, then
            log.debug("leases that worker %s has brought along are not renewed yet: %s", self.worker, error)

    async def _extend(self, attempts: Any) -> list[bool]:
        async def extend(attempt: Any) -> bool:
            try:
                return await self._orchestrator.extend(attempt.flowId, attempt.actionId, attempt.retryCount)
            except OrchyError:  # it is not known to be over, and the worker will ask again
                return True

        return await gather(extend, attempts, self._limits.extensions_at_once)

    # Work.

    def _take_credits(self, changes: Any, nursery: trio.Nursery) -> None:
        credit_max = self._limits.credit_max
        given = sum(max(0, demand.granted) for demand in self._demands.values()) + len(self._outgoing)
        for credit in changes:
            name, count = credit.actionName, credit.count
            demand = self._demands.get(name) or self._demand(name, nursery)
            given += max(0, count)
            if count > 0 and given > credit_max:
                raise InvalidInput(
                    f"a stream can have credit for {credit_max} attempts, those included that are unread"
                )
            if count < 0 and demand.granted + count < -credit_max:
                raise InvalidInput(f"credit of {name} was taken back that was never given")
            demand.add(count)

    def _demand(self, name: str, nursery: trio.Nursery) -> Demand:
        if not 0 < len(name) <= NAME_CHARACTERS_MAX:
            raise InvalidInput(f"credit is for an actionName of 1 to {NAME_CHARACTERS_MAX} characters")
        if len(self._demands) == self._limits.actions_max:
            raise InvalidInput(f"a stream is for at most {self._limits.actions_max} actions")
        demand = self._demands[name] = Demand(name, self.worker, partial(self._deliver, name), self.lease.lease_ms)
        if self._outgoing.is_full:
            demand.pause()
        nursery.start_soon(self._hand_out, demand)
        return demand

    async def _hand_out(self, demand: Demand) -> None:
        with trio.CancelScope() as scope:
            self._claims.append(scope)
            await self._dispatcher.hand_out(demand)
        self._on(Trigger.NO_MORE_WORK)  # the server is about to stop

    def _deliver(self, action_name: str, claimed: Claimed) -> None:
        """Attempts were handed out for this worker."""
        self._outgoing.add_attempts(action_name, claimed)
        self.handed_out += len(claimed.bodies)
        self.lease.add(claimed.receipts)
        if self._outgoing.is_full:
            for demand in self._demands.values():
                demand.pause()
        if self._state not in SENDS_ATTEMPTS:
            self._give_back_soon()
        self._notify()

    async def reply(self) -> EncodedActions | None:
        """All that there is to send, as soon as there is something; None: nothing more will be.

        To ask for the next one says that the connection has taken the one before.
        """
        await trio.lowlevel.checkpoint_if_cancelled()  # a call that was cut has not sent it: `leave` gives it back
        self._outgoing.confirm_sent()
        while self._state is not State.ABANDONED:  # it gets its answers when it comes again
            was_full = self._outgoing.is_full
            message = self._outgoing.next_message(with_attempts=self._state in SENDS_ATTEMPTS)
            if was_full and not self._outgoing.is_full:
                for demand in self._demands.values():
                    demand.resume()
            if message is not None:
                return message
            if self._state in ENDS:
                return None
            self._changed = trio.Event()
            await self._changed.wait()
        return None
